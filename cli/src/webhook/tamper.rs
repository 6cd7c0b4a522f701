//! `--tamper`: what a receiver has to refuse.

use callscope_common::signature;
use clap::ValueEnum;

/// Age in seconds of a signature that every receiver takes for too old: a day.
const OLD: i64 = 86_400;

/// What is wrong with a delivery on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tamper {
    /// A digit of the signature is another one
    Signature,
    /// It was signed a day ago: an old delivery, sent once more by someone who caught it
    Timestamp,
    /// The body was changed after it was signed
    Body,
}

/// The header's value and the body of a delivery, tampered with where that is asked for.
pub(crate) fn sign(secret: &[u8], now: i64, body: &[u8], tamper: Option<Tamper>) -> (String, Vec<u8>) {
    let at = if tamper == Some(Tamper::Timestamp) { now - OLD } else { now };
    let mut value = signature::sign(secret, at, body);
    let mut body = body.to_vec();
    match tamper {
        Some(Tamper::Signature) => {
            let last = value.pop();
            value.push(if last == Some('0') { '1' } else { '0' });
        }
        Some(Tamper::Body) => {
            // Still the same kind of JSON, so that only the signature tells.
            let open = body.iter().position(|byte| *byte == b'{').map_or(body.len(), |at| at + 1);
            let is_empty = body.get(open..).is_some_and(|rest| rest.trim_ascii_start().starts_with(b"}"));
            let more: &[u8] = if is_empty { b"\"tampered\": true" } else { b"\"tampered\": true, " };
            body.splice(open..open, more.iter().copied());
        }
        Some(Tamper::Timestamp) | None => {}
    }
    (value, body)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use callscope_common::signature::{SignatureError, SignatureHeader};

    fn check(tamper: Option<Tamper>) -> Result<(), SignatureError> {
        let (value, body) = sign(b"s", 1_790_855_035, br#"{"type": "x"}"#, tamper);
        assert!(serde_json::from_slice::<serde_json::Value>(&body).unwrap().is_object());
        SignatureHeader::parse(&value)?.verify(&[b"s"], &body, 1_790_855_035, 1800)
    }

    #[test]
    fn each_is_refused_for_its_own_reason() {
        assert_eq!(check(None), Ok(()));
        assert_eq!(check(Some(Tamper::Signature)), Err(SignatureError::Mismatch));
        assert_eq!(check(Some(Tamper::Timestamp)), Err(SignatureError::TooOld));
        assert_eq!(check(Some(Tamper::Body)), Err(SignatureError::Mismatch));
    }
}
