//! Authenticates the messages on the bus: that each comes from a server of this cluster, for this channel, unaltered,
//! recent and not repeated.
//!
//! A sealed message is an HMAC-SHA256 in base64, followed by a JSON envelope. The HMAC covers the envelope, the name of
//! the cluster and the number of the channel. Its keys are derived from the secrets that sign tokens, which all servers
//! of a cluster share. The first key seals, and any of them opens, so that secrets can be rotated. The envelope has the
//! sender's name, a counter of its messages and the time of sending. A seal does not encrypt: a client that may
//! subscribe to the channel can read the messages.

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

/// Input of the key derivation, so that other uses of the same secret have other keys.
const KEY_PURPOSE: &[u8] = b"callscope: messages between servers, version 1";
/// Length of an HMAC in base64 without padding.
const MAC_LEN: usize = 43;
/// Most milliseconds between the time of sending, by the sender's clock, and the time of arrival.
const MAX_AGE_MS: u64 = 60_000;
/// Pairs of channel and sender whose last message is remembered. When there are more, the pairs whose messages have
/// expired are forgotten.
const MAX_SENDERS: usize = 4_096;

/// Seals and opens messages.
pub(super) struct Seal {
    keys: Vec<Hmac<Sha256>>,
    cluster: String,
    node: String,
    sent: AtomicU64,
    /// The counter of the last message of each sender in each channel, and the time of sending of that message.
    last_received: Mutex<HashMap<(usize, String), (u64, u64)>>,
}

#[derive(Serialize, Deserialize)]
struct Envelope<'m> {
    #[serde(borrow)]
    from: Cow<'m, str>,
    count: u64,
    at_ms: u64,
    #[serde(borrow)]
    body: &'m RawValue,
}

/// An authentic message.
#[derive(Debug)]
pub(super) struct Opened<'m> {
    pub from: Cow<'m, str>,
    /// The message itself, in JSON.
    pub body: &'m str,
}

/// Why a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealError {
    /// The HMAC is missing, or does not fit with any of the keys.
    #[error("it is not signed by a server with the same jwt_secret")]
    Mac,
    /// The time of sending is too far in the past or in the future.
    #[error("it is more than 60 seconds old, or the servers' clocks differ by as much")]
    Expired,
    /// The message arrived before, or a later one of its sender did.
    #[error("it arrived before")]
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
            last_received: Mutex::default(),
        }
    }

    /// Seals a message for a channel. The messages of a channel must be sent in the order in which they were sealed.
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

    /// Authenticates a message that arrived in a channel.
    pub fn open<'m>(&self, channel: usize, sealed: &'m [u8]) -> Result<Opened<'m>, SealError> {
        let (mac, json) = sealed.split_at_checked(MAC_LEN).ok_or(SealError::Mac)?;
        let mac = BASE64_URL_SAFE_NO_PAD.decode(mac).map_err(|_| SealError::Mac)?;
        let fits = |key| self.mac(key, channel, json).verify_slice(&mac).is_ok();
        if !self.keys.iter().any(fits) {
            return Err(SealError::Mac);
        }
        let envelope: Envelope<'m> = serde_json::from_slice(json).map_err(|_| SealError::Mac)?;
        self.check_and_record(channel, &envelope, now_ms())?;
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

    /// Records a message, or refuses it if it has expired or is repeated.
    fn check_and_record(&self, channel: usize, envelope: &Envelope<'_>, now: u64) -> Result<(), SealError> {
        if now.abs_diff(envelope.at_ms) > MAX_AGE_MS {
            return Err(SealError::Expired);
        }
        let mut last_received = self.last_received.lock();
        if last_received.len() >= MAX_SENDERS {
            // A repeated message of the forgotten senders would be refused as expired.
            last_received.retain(|_, (_, at_ms)| now.abs_diff(*at_ms) <= 2 * MAX_AGE_MS);
        }
        let last = last_received.entry((channel, envelope.from.clone().into_owned())).or_default();
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
    fn a_message_of_a_peer_opens_once_and_unchanged() {
        let (here, there) = (seal(&["k1"], "c", "here"), seal(&["k1"], "c", "there"));
        let body = r#"{"x":1.50, "y":"\u001b"}"#;
        let sealed = here.seal(3, body).unwrap();
        assert_eq!(opened(&there, 3, &sealed), Ok(("here".into(), body.into())));
        assert_eq!(opened(&there, 3, &sealed), Err(SealError::Repeated));
        let (first, second) = (here.seal(3, body).unwrap(), here.seal(3, body).unwrap());
        assert!(opened(&there, 3, &second).is_ok());
        assert_eq!(opened(&there, 3, &first), Err(SealError::Repeated));
        // Each channel has its own order.
        assert!(opened(&there, 4, &here.seal(4, body).unwrap()).is_ok());
    }

    #[test]
    fn a_message_that_is_altered_or_of_another_cluster_channel_or_key_is_refused() {
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
    fn messages_from_the_past_and_the_future_are_refused() {
        let seal = seal(&["k"], "c", "there");
        let body = serde_json::from_str("1").unwrap();
        let at = |at_ms, count| Envelope { from: "here".into(), count, at_ms, body };
        let check = |at_ms, now| seal.check_and_record(0, &at(at_ms, 1), now);
        assert_eq!(check(100_000, 100_000 + MAX_AGE_MS + 1), Err(SealError::Expired));
        assert_eq!(check(100_000 + MAX_AGE_MS + 1, 100_000), Err(SealError::Expired));
        assert_eq!(check(100_000, 100_000 + MAX_AGE_MS), Ok(()));
    }
}
