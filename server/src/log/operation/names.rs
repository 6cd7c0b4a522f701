//! What an operation names and needs.

use std::time::Duration;

use callscope_common::{CallId, Identifier, Speaker};
use smallvec::SmallVec;

use crate::log::{Change, DedupHash, DedupKey, Delivery, Names, Operation, dedup_hash, sid_prefix};

impl Operation {
    pub(crate) fn delivery(&self) -> Option<&Delivery> {
        match self {
            Self::Deliver(delivery) => Some(delivery),
            _ => None,
        }
    }

    /// Every identifier it names.
    pub(crate) fn names(&self) -> SmallVec<[&Identifier; 4]> {
        match self {
            Self::Deliver(delivery) => delivery.change.names().map(|names| names.iter().collect()).unwrap_or_default(),
            Self::Register(register) => register.call.call_sid.iter().chain(&register.call.conversation_id).collect(),
            Self::Patch(patch) => {
                let given =
                    patch.patch.call_sid.iter().chain(&patch.patch.conversation_id).chain(&patch.patch.identifiers);
                given.chain([&patch.id]).collect()
            }
            Self::Delete(_) | Self::Heartbeat(_) | Self::Deregister(_) | Self::StripDeliveries(_) => SmallVec::new(),
        }
    }

    /// The calls it names by their own ids, or by identifiers that may spell one.
    pub(crate) fn call_ids(&self) -> SmallVec<[CallId; 2]> {
        let mut ids: SmallVec<[CallId; 2]> = self.names().into_iter().filter_map(Identifier::as_call_id).collect();
        match self {
            Self::Register(register) => ids.push(register.call_id),
            Self::Delete(delete) => ids.push(delete.call_id),
            Self::Deliver(_) | Self::Patch(_) | Self::Heartbeat(_) | Self::Deregister(_) | Self::StripDeliveries(_) => {
            }
        }
        ids
    }

    /// How the sid begins that it may have to make up.
    pub(crate) fn sid_prefix(&self) -> Option<String> {
        match self {
            Self::Deliver(delivery) => delivery.change.names().map(|_| sid_prefix(None, delivery.received_at)),
            Self::Register(register) if register.call.call_sid.is_none() => {
                Some(sid_prefix(register.call.subject.as_deref(), register.at))
            }
            _ => None,
        }
    }

    /// How many turns it may append.
    pub(crate) fn turns(&self) -> usize {
        match self.delivery().map(|delivery| &delivery.change) {
            Some(Change::Turn(turn)) => usize::from(turn.is_final),
            Some(Change::Result(result)) => result.turns.len(),
            _ => 0,
        }
    }
}

impl Change {
    pub(crate) fn names(&self) -> Option<&Names> {
        match self {
            Self::Turn(turn) => Some(&turn.names),
            Self::Result(result) => Some(&result.names),
            Self::Failure(failure) => Some(&failure.names),
            Self::Audio { names, .. } | Self::Ignored { names, .. } => Some(names),
            Self::Rejected { .. } => None,
        }
    }
}

impl Delivery {
    /// The hash of its `turn_id`, if it has one.
    pub(crate) fn turn_hash(&self) -> Option<&DedupHash> {
        match &self.dedup_key {
            DedupKey::Turn(hash) => Some(hash),
            _ => None,
        }
    }

    /// How long a caller should wait before it tries again, where the store is not to be had.
    pub const RETRY_AFTER: Duration = Duration::from_secs(1);
}

/// The hash under which a speaker's `turn_id` is kept.
#[must_use]
pub fn turn_hash(speaker: Speaker, turn_id: &str) -> DedupHash {
    dedup_hash(&[speaker.as_str().as_bytes(), turn_id.as_bytes()])
}

/// The hash under which versions before migration 5 kept a `turn_id`, whoever spoke.
pub(crate) fn turn_hash_without_speaker(turn_id: &str) -> DedupHash {
    dedup_hash(&[turn_id.as_bytes()])
}
