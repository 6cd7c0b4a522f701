//! `--tamper`: makes deliveries that a receiver has to refuse.

use callscope_common::signature;
use clap::ValueEnum;

/// Age of an outdated signature: a day, which is too old for every receiver.
const OUTDATED_AGE_SECS: i64 = 86_400;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tamper {
    /// A digit of the signature is another one
    Signature,
    /// It was signed a day ago: an old delivery, sent once more by someone who caught it
    Timestamp,
    /// The body was changed after it was signed
    Body,
}

/// Returns the value of the signature header and the body of a delivery, one of them tampered with if `tamper` says so.
pub(crate) fn sign(secret: &[u8], now: i64, body: &[u8], tamper: Option<Tamper>) -> (String, Vec<u8>) {
    let signed_at = if tamper == Some(Tamper::Timestamp) { now - OUTDATED_AGE_SECS } else { now };
    let mut value = signature::sign(secret, signed_at, body);
    let mut body = body.to_vec();
    match tamper {
        Some(Tamper::Signature) => {
            let last = value.pop();
            value.push(if last == Some('0') { '1' } else { '0' });
        }
        Some(Tamper::Body) => {
            // The body stays valid JSON of the same kind, so that only the signature shows the change.
            let inside = body.iter().position(|byte| *byte == b'{').map_or(body.len(), |at| at + 1);
            let is_empty = body.get(inside..).is_some_and(|rest| rest.trim_ascii_start().starts_with(b"}"));
            let member: &[u8] = if is_empty { b"\"tampered\": true" } else { b"\"tampered\": true, " };
            body.splice(inside..inside, member.iter().copied());
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
