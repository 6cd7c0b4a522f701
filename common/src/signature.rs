//! The webhook signature: `ElevenLabs-Signature: t=<unix secs>,v0=<hex>`.
//!
//! `v0` is HMAC-SHA256 of `<t>.` and the raw body under the shared secret, as in the vendor's SDKs
//! (`elevenlabs.webhooks.construct_event`). One header may hold several `v0`, for example while the sender rotates
//! secrets.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use smallvec::SmallVec;
use subtle::{Choice, ConstantTimeEq};

pub mod diagnosis;

/// The name of the header.
pub const HEADER: &str = "ElevenLabs-Signature";

type HmacSha256 = Hmac<Sha256>;

/// Returns the value of the header for `body`, signed at `unix_secs`.
#[must_use]
pub fn sign(secret: &[u8], unix_secs: i64, body: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut value = format!("t={unix_secs},v0=");
    for byte in mac(secret, unix_secs.to_string().as_bytes(), body) {
        let _ = write!(value, "{byte:02x}");
    }
    value
}

/// A signature header of one or several lines, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureHeader {
    /// The signed times: the digits as they were signed, and their value in Unix seconds.
    times: SmallVec<[(SmallVec<[u8; 16]>, i64); 1]>,
    digests: SmallVec<[[u8; 32]; 2]>,
}

/// Why a header is not a signature, or does not fit the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header has no `t=` with a number, or no `v0=` with 64 hex digits.
    #[error("malformed signature header")]
    Malformed,
    /// The signed time lies too far in the past.
    #[error("signature too old")]
    TooOld,
    /// The signed time lies too far in the future.
    #[error("signature from the future")]
    FromTheFuture,
    /// No digest fits the body under any of the secrets.
    #[error("wrong signature")]
    Mismatch,
}

impl SignatureHeader {
    /// Maximum number of digests that are read from one header. Further digests are ignored, which bounds the work that
    /// a header can cause.
    pub const MAX_DIGESTS: usize = 8;
    /// Seconds by which the signed time may lie ahead of the receiver's clock.
    pub const FUTURE_SECS: i64 = 60;
    /// Maximum number of signed times that are read from one header.
    pub const MAX_TIMES: usize = 4;

    /// Parses the value of a header. Ignores unknown parts, and blanks around parts. Hex digits may be upper case.
    ///
    /// # Errors
    /// Returns [`SignatureError::Malformed`].
    pub fn parse(value: &str) -> Result<Self, SignatureError> {
        Self::parse_lines([value])
    }

    /// Parses the signature of a request from its headers. The request may have several signature headers.
    ///
    /// # Errors
    /// Returns [`SignatureError::Malformed`], also if there is no such header.
    pub fn of(headers: &[(String, String)]) -> Result<Self, SignatureError> {
        let signature_lines = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(HEADER));
        Self::parse_lines(signature_lines.map(|(_, value)| value.as_str()))
    }

    /// Parses several header lines as one list (RFC 9110, section 5.3). Proxies join and split such lists, so any
    /// digest may belong to any time.
    ///
    /// # Errors
    /// Returns [`SignatureError::Malformed`].
    pub fn parse_lines<'h>(lines: impl IntoIterator<Item = &'h str>) -> Result<Self, SignatureError> {
        let mut header = Self { times: SmallVec::new(), digests: SmallVec::new() };
        for part in lines.into_iter().flat_map(|line| line.split(',')) {
            let Some((key, value)) = part.split_once('=') else { continue };
            match key.trim() {
                "t" if header.times.len() < Self::MAX_TIMES => header.times.extend(parse_time(value.trim())),
                "v0" if header.digests.len() < Self::MAX_DIGESTS => header.digests.extend(parse_digest(value.trim())),
                _ => {}
            }
        }
        if header.times.is_empty() || header.digests.is_empty() {
            return Err(SignatureError::Malformed);
        }
        Ok(header)
    }

    /// Returns the first signed time in Unix seconds.
    #[must_use]
    pub fn unix_secs(&self) -> i64 {
        self.times.first().map_or(0, |(_, secs)| *secs)
    }

    /// Checks the signed time, which needs no body. If there are several, one has to be valid.
    ///
    /// # Errors
    /// Returns [`SignatureError::TooOld`] or [`SignatureError::FromTheFuture`].
    pub fn check_time(&self, now: i64, tolerance_secs: i64) -> Result<(), SignatureError> {
        let mut checked = self.times.iter().map(|(_, secs)| check_one_time(*secs, now, tolerance_secs));
        let first = checked.next().unwrap_or(Err(SignatureError::Malformed));
        first.or_else(|error| checked.find(Result::is_ok).unwrap_or(Err(error)))
    }

    /// Checks the signed time against `now` (Unix seconds) and the digests against `body`, in constant time.
    ///
    /// # Errors
    /// Returns [`SignatureError::TooOld`], [`SignatureError::FromTheFuture`] or [`SignatureError::Mismatch`].
    pub fn verify<S: AsRef<[u8]>>(
        &self,
        secrets: &[S],
        body: &[u8],
        now: i64,
        tolerance_secs: i64,
    ) -> Result<(), SignatureError> {
        self.verified_time(secrets, body, now, tolerance_secs).map(drop)
    }

    /// Does the same as [`verify`](Self::verify), and returns the signed time that fits, in Unix seconds.
    ///
    /// # Errors
    /// Returns the errors of [`verify`](Self::verify).
    pub fn verified_time<S: AsRef<[u8]>>(
        &self,
        secrets: &[S],
        body: &[u8],
        now: i64,
        tolerance_secs: i64,
    ) -> Result<i64, SignatureError> {
        self.check_time(now, tolerance_secs)?;
        let valid_times = self.times.iter().filter(|(_, secs)| check_one_time(*secs, now, tolerance_secs).is_ok());
        for (timestamp, unix_secs) in valid_times {
            let mut fits = Choice::from(0);
            for secret in secrets {
                let expected = mac(secret.as_ref(), timestamp, body);
                for digest in &self.digests {
                    fits |= expected.as_slice().ct_eq(digest.as_slice());
                }
            }
            if bool::from(fits) {
                return Ok(*unix_secs);
            }
        }
        Err(SignatureError::Mismatch)
    }
}

fn check_one_time(unix_secs: i64, now: i64, tolerance_secs: i64) -> Result<(), SignatureError> {
    if unix_secs < now.saturating_sub(tolerance_secs) {
        Err(SignatureError::TooOld)
    } else if unix_secs > now.saturating_add(SignatureHeader::FUTURE_SECS) {
        Err(SignatureError::FromTheFuture)
    } else {
        Ok(())
    }
}

/// Parses a time that consists of digits only.
fn parse_time(text: &str) -> Option<(SmallVec<[u8; 16]>, i64)> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let secs = text.parse().ok().filter(|_| is_number)?;
    Some((SmallVec::from_slice(text.as_bytes()), secs))
}

fn mac(secret: &[u8], timestamp: &[u8], body: &[u8]) -> [u8; 32] {
    // HMAC takes a key of any length, so this cannot fail.
    let Ok(mut mac) = HmacSha256::new_from_slice(secret) else { return [0; 32] };
    for part in [timestamp, b".", body] {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn parse_digest(hex: &str) -> Option<[u8; 32]> {
    let hex = hex.as_bytes();
    if hex.len() != 64 {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"wsec_test";
    const BODY: &[u8] = br#"{"type": "post_call_audio"}"#;

    fn check(header: &str, body: &[u8], now: i64) -> Result<(), SignatureError> {
        SignatureHeader::parse(header)?.verify(&[SECRET], body, now, 1800)
    }

    #[test]
    fn the_signature_is_that_of_openssl() {
        // echo -n '1790855035.{"type": "post_call_audio"}' | openssl dgst -sha256 -hmac wsec_test
        assert_eq!(sign(SECRET, 1_790_855_035, BODY), KNOWN);
    }
    const KNOWN: &str = "t=1790855035,v0=92b880806810661254c3d0a2bd425b8ce41d1f6d261def06adf6a8d333e21a54";

    #[test]
    fn a_signature_verifies_in_any_spelling() {
        let header = sign(SECRET, 1000, BODY);
        assert_eq!(check(&header, BODY, 1000), Ok(()));
        let loud = header.replace("v0=", " v0 = ").to_uppercase().replace("V0", "v0").replace("T=", " t= ");
        assert_eq!(check(&loud, BODY, 1000), Ok(()));
        let several = header.replace(",v0=", &format!(",v1=x,v0={},v0=", "0".repeat(64)));
        assert_eq!(check(&several, BODY, 1000), Ok(()));
    }

    #[test]
    fn a_wrong_old_or_malformed_signature_is_refused() {
        let header = sign(SECRET, 1000, BODY);
        assert_eq!(check(&header, b"{}", 1000), Err(SignatureError::Mismatch));
        assert_eq!(check(&header, BODY, 1000 + 1800), Ok(()));
        assert_eq!(check(&header, BODY, 1000 + 1801), Err(SignatureError::TooOld));
        assert_eq!(check(&header, BODY, 1000 - 60), Ok(()));
        assert_eq!(check(&header, BODY, 1000 - 61), Err(SignatureError::FromTheFuture));
        for malformed in ["", "t=", "t=1", "v0=00", "t=+1,v0=", "t=1,v0=zz", "t=99999999999999999999,v0="] {
            let malformed = malformed
                .replace("v0=", &format!("v0={}", "0".repeat(if malformed.ends_with("v0=") { 64 } else { 0 })));
            assert_eq!(check(&malformed, BODY, 1000), Err(SignatureError::Malformed), "{malformed:?}");
        }
    }

    #[test]
    fn any_of_the_secrets_verifies() {
        let header = sign(b"old", 1000, BODY);
        let header = SignatureHeader::parse(&header).unwrap();
        assert_eq!(header.verify(&["new", "old"], BODY, 1000, 1800), Ok(()));
        assert_eq!(header.verify::<&str>(&[], BODY, 1000, 1800), Err(SignatureError::Mismatch));
    }

    #[test]
    fn several_lines_are_one_list() {
        let good = sign(SECRET, 1000, BODY);
        let bad = format!("t=1000,v0={}", "0".repeat(64));
        let late = sign(SECRET, 1, BODY);
        let (time, digest) = good.split_once(',').unwrap();
        let check = |lines: &[&str], now| {
            SignatureHeader::parse_lines(lines.iter().copied())?.verified_time(&[SECRET], BODY, now, 1800)
        };
        for lines in [
            vec![bad.as_str(), good.as_str()],
            vec![good.as_str(), bad.as_str()],
            vec![late.as_str(), good.as_str()],
            vec![time, digest],
            vec![digest, time],
            vec!["", "v1=x", good.as_str()],
            vec!["t=x", good.as_str()],
        ] {
            assert_eq!(check(&lines, 2000), Ok(1000), "{lines:?}");
        }
        assert_eq!(check(&[&late, &late], 2000), Err(SignatureError::TooOld));
        assert_eq!(check(&[&bad, &late], 2000), Err(SignatureError::Mismatch));
        assert_eq!(check(&[time, time], 2000), Err(SignatureError::Malformed));
        assert_eq!(check(&[], 2000), Err(SignatureError::Malformed));
        // A digest of another signed time does not fit.
        assert_eq!(check(&[time, late.split_once(',').unwrap().1], 1000), Err(SignatureError::Mismatch));
    }
}
