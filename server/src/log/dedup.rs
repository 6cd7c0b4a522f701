//! What makes two deliveries the same, and the hashes under which that is stored.

use callscope_common::{CallId, Speaker};
use sha2::{Digest, Sha256};

/// SHA-256 of what makes two deliveries the same. In some hashes, a call's id or a time replaces the first bytes.
pub(crate) type DedupHash = [u8; 32];

/// What makes a delivery a repeat of another one, beside the sender's `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DedupKey {
    /// The delivery is never a repeat: it changes nothing, or it has to take effect again.
    None,
    /// Equal content, or equal bytes with an equal signature.
    Content(DedupHash),
    /// Equal bytes without a signature, received within the same second or two neighbouring ones.
    Unsigned {
        /// The hash for the second of the receipt.
        now: DedupHash,
        /// The hash for the second before.
        before: DedupHash,
        /// The hash for the second after: two deliveries that arrive together may be processed in the other order.
        after: DedupHash,
    },
    /// An equal `turn_id` of the same speaker in the same call; holds the `turn_hash`.
    Turn(DedupHash),
}

impl DedupKey {
    /// The hashes that can be looked up before the call is known. The first one is stored.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = DedupHash> {
        let hashes = match self {
            Self::None | Self::Turn(_) => [None; 3],
            Self::Content(hash) => [Some(*hash), None, None],
            Self::Unsigned { now, before, after } => [Some(*now), Some(*before), Some(*after)],
        };
        hashes.into_iter().flatten()
    }

    /// The hash that is stored for a turn of a call. It starts with the call's id, so that the hashes of one call are
    /// neighbours in the index, and has 16 bytes of SHA-256.
    pub(crate) fn turn_hash_in_call(call_id: CallId, turn_hash: &DedupHash) -> DedupHash {
        let mut hash = dedup_hash(&[b"turn", call_id.as_bytes(), turn_hash]);
        hash[..16].copy_from_slice(call_id.as_bytes());
        hash
    }
}

/// Hashes `parts`, each with its length, so that two different lists never have the same input.
pub(crate) fn dedup_hash(parts: &[&[u8]]) -> DedupHash {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// A hash that starts with a time and has 24 bytes of SHA-256. The hashes of one time are neighbours in the index, so
/// that a batch changes few pages of it.
pub(crate) fn dedup_hash_at(unix_secs: i64, parts: &[&[u8]]) -> DedupHash {
    let mut hash = dedup_hash(parts);
    hash[..8].copy_from_slice(&unix_secs.to_be_bytes());
    hash
}

/// The hash of a `turn_id` of a speaker.
pub(crate) fn turn_hash(speaker: Speaker, turn_id: &str) -> DedupHash {
    dedup_hash(&[speaker.as_str().as_bytes(), turn_id.as_bytes()])
}

/// The hash of a `turn_id` in versions before migration 5, which was the same for both speakers.
pub(crate) fn turn_hash_without_speaker(turn_id: &str) -> DedupHash {
    dedup_hash(&[turn_id.as_bytes()])
}
