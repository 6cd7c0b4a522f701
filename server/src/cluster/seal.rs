//! Proves that a message on the bus comes from a server of this cluster, for this channel, unaltered, recent and not
//! repeated.
//!
//! A sealed message is an HMAC-SHA256 in base64, then the JSON that it covers, together with the name of the cluster
//! and the number of the channel. The key is derived from the secrets that sign tokens, which all servers of a cluster
//! share: the first one seals, and any of them opens, so that secrets can be rotated. The JSON names the sender, counts
//! its messages and says when it was sent. A seal hides nothing: a client that may subscribe to the channel can read
//! the messages.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::Sha256;

use crate::secret::Secret;

/// Separates the derived key from keys for other uses of the same secret.
const KEY_PURPOSE: &[u8] = b"callscope: messages between servers, version 1";
/// Length of the code in base64.
const MAC_LEN: usize = 43;
/// Most milliseconds between the sender's clock and this one when a message arrives.
const MAX_AGE_MS: u64 = 60_000;
/// Pairs of channel and sender whose last message is remembered. Beyond that, those too old to be repeated are
/// forgotten.
const MAX_SENDERS: usize = 4_096;

/// Seals and opens messages.
pub(super) struct Seal {
    keys: Vec<Hmac<Sha256>>,
    cluster: String,
    node: String,
    sent: AtomicU64,
    /// The last counter of each sender in each channel, and when that message was sent.
    seen: Mutex<HashMap<(usize, String), (u64, u64)>>,
}

/// What the code covers, beside the channel.
#[derive(Serialize, Deserialize)]
struct Envelope<'m> {
    #[serde(borrow)]
    from: Cow<'m, str>,
    count: u64,
    at_ms: u64,
    #[serde(borrow)]
    body: &'m RawValue,
}

/// A message that is believed.
#[derive(Debug)]
pub(super) struct Opened<'m> {
    pub from: Cow<'m, str>,
    /// The message itself, in JSON.
    pub body: &'m str,
}

/// Why a message is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealError {
    /// It carries no code, or one that no key makes of it.
    #[error("it is not signed by a server with the same jwt_secret")]
    Mac,
    /// It was sent too long ago, or is of the future.
    #[error("it is more than 60 seconds old, or the servers' clocks differ by as much")]
    Expired,
    /// It came before, or after a later one of its sender.
    #[error("it came before")]
    Repeated,
}

impl Seal {
    pub fn new(secrets: &[Secret], cluster: &str, node: &str) -> Self {
        let derive = |secret: &Secret| {
            let mut key = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).ok()?;
            key.update(KEY_PURPOSE);
            Hmac::new_from_slice(&key.finalize().into_bytes()).ok()
        };
        Self {
            keys: secrets.iter().filter_map(derive).collect(),
            cluster: cluster.to_owned(),
            node: node.to_owned(),
            sent: AtomicU64::new(0),
            seen: Mutex::default(),
        }
    }

    /// Seals a message for a channel. Messages must go out in the order in which they were sealed.
    pub fn seal(&self, channel: usize, body: &str) -> Option<String> {
        let envelope = Envelope {
            from: self.node.as_str().into(),
            count: self.sent.fetch_add(1, Ordering::Relaxed) + 1,
            at_ms: now_ms(),
            body: serde_json::from_str(body).ok()?,
        };
        let json = serde_json::to_string(&envelope).ok()?;
        let mac = self.mac(self.keys.first()?, channel, json.as_bytes()).finalize().into_bytes();
        let mut sealed = String::with_capacity(MAC_LEN + json.len());
        BASE64_URL_SAFE_NO_PAD.encode_string(mac, &mut sealed);
        sealed.push_str(&json);
        Some(sealed)
    }

    /// Opens what came in a channel.
    pub fn open<'m>(&self, channel: usize, sealed: &'m [u8]) -> Result<Opened<'m>, SealError> {
        let (mac, json) = sealed.split_at_checked(MAC_LEN).ok_or(SealError::Mac)?;
        let mac = BASE64_URL_SAFE_NO_PAD.decode(mac).map_err(|_| SealError::Mac)?;
        let fits = |key| self.mac(key, channel, json).verify_slice(&mac).is_ok();
        if !self.keys.iter().any(fits) {
            return Err(SealError::Mac);
        }
        let envelope: Envelope<'m> = serde_json::from_slice(json).map_err(|_| SealError::Mac)?;
        self.admit(channel, &envelope, now_ms())?;
        Ok(Opened { from: envelope.from, body: envelope.body.get() })
    }

    fn mac(&self, key: &Hmac<Sha256>, channel: usize, json: &[u8]) -> Hmac<Sha256> {
        let mut mac = key.clone();
        mac.update(&(self.cluster.len() as u64).to_be_bytes());
        mac.update(self.cluster.as_bytes());
        mac.update(&(channel as u64).to_be_bytes());
        mac.update(json);
        mac
    }

    /// Remembers a message, unless it is late or came before.
    fn admit(&self, channel: usize, envelope: &Envelope<'_>, now: u64) -> Result<(), SealError> {
        if now.abs_diff(envelope.at_ms) > MAX_AGE_MS {
            return Err(SealError::Expired);
        }
        let mut seen = self.seen.lock();
        if seen.len() >= MAX_SENDERS {
            // A repeated message of theirs would be too old by now.
            seen.retain(|_, (_, at)| now.abs_diff(*at) <= 2 * MAX_AGE_MS);
        }
        let last = seen.entry((channel, envelope.from.clone().into_owned())).or_default();
        if envelope.count <= last.0 {
            return Err(SealError::Repeated);
        }
        *last = (envelope.count, envelope.at_ms);
        Ok(())
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(secrets: &[&str], cluster: &str, node: &str) -> Seal {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new((*secret).into())).collect();
        Seal::new(&secrets, cluster, node)
    }

    fn opened(seal: &Seal, channel: usize, sealed: &str) -> Result<(String, String), SealError> {
        seal.open(channel, sealed.as_bytes()).map(|opened| (opened.from.into_owned(), opened.body.to_owned()))
    }

    #[test]
    fn what_a_peer_sealed_opens_once_and_unchanged() {
        let (here, there) = (seal(&["k1"], "c", "here"), seal(&["k1"], "c", "there"));
        let body = r#"{"x":1.50, "y":"\u001b"}"#;
        let sealed = here.seal(3, body).unwrap();
        assert_eq!(opened(&there, 3, &sealed), Ok(("here".into(), body.into())));
        assert_eq!(opened(&there, 3, &sealed), Err(SealError::Repeated));
        let (first, second) = (here.seal(3, body).unwrap(), here.seal(3, body).unwrap());
        assert!(opened(&there, 3, &second).is_ok());
        assert_eq!(opened(&there, 3, &first), Err(SealError::Repeated));
        // Each channel by itself: they may overtake each other.
        assert!(opened(&there, 4, &here.seal(4, body).unwrap()).is_ok());
    }

    #[test]
    fn what_is_altered_of_another_cluster_channel_or_key_is_not_believed() {
        let there = seal(&["k1"], "c", "there");
        let sealed = seal(&["k1"], "c", "here").seal(0, r#"{"a":1}"#).unwrap();
        for (at, byte) in sealed.bytes().enumerate() {
            let mut altered = sealed.clone().into_bytes();
            altered[at] = if byte == b'0' { b'1' } else { b'0' };
            assert_eq!(there.open(0, &altered).map(|_| ()), Err(SealError::Mac), "byte {at}");
        }
        assert_eq!(opened(&there, 1, &sealed), Err(SealError::Mac));
        assert_eq!(opened(&seal(&["k1"], "d", "there"), 0, &sealed), Err(SealError::Mac));
        assert_eq!(opened(&seal(&["k2"], "c", "there"), 0, &sealed), Err(SealError::Mac));
        assert_eq!(opened(&there, 0, r#"{"from":"here","body":"beat"}"#), Err(SealError::Mac));
        assert_eq!(opened(&there, 0, ""), Err(SealError::Mac));
        assert!(opened(&there, 0, &sealed).is_ok());
    }

    #[test]
    fn keys_can_be_rotated() {
        let (old, both, new) = (seal(&["o"], "c", "1"), seal(&["n", "o"], "c", "2"), seal(&["n"], "c", "3"));
        assert!(opened(&both, 0, &old.seal(0, "1").unwrap()).is_ok());
        assert!(opened(&new, 0, &both.seal(0, "1").unwrap()).is_ok());
        assert!(opened(&both, 0, &new.seal(0, "1").unwrap()).is_ok());
        assert_eq!(opened(&new, 0, &old.seal(0, "1").unwrap()), Err(SealError::Mac));
    }

    #[test]
    fn old_messages_and_those_of_the_future_are_not_believed() {
        let seal = seal(&["k"], "c", "there");
        let body = serde_json::from_str("1").unwrap();
        let at = |at_ms, count| Envelope { from: "here".into(), count, at_ms, body };
        assert_eq!(seal.admit(0, &at(100_000, 1), 100_000 + MAX_AGE_MS + 1), Err(SealError::Expired));
        assert_eq!(seal.admit(0, &at(100_000 + MAX_AGE_MS + 1, 1), 100_000), Err(SealError::Expired));
        assert_eq!(seal.admit(0, &at(100_000, 1), 100_000 + MAX_AGE_MS), Ok(()));
    }
}
