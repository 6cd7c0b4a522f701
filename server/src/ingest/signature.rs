//! Verifies the signatures of webhooks.

use callscope_common::Timestamp;
use callscope_common::signature::diagnosis::{Cause, Diagnosis, KnownSecret, Request, diagnose, diagnose_headers};
use callscope_common::signature::{HEADER, SignatureError, SignatureHeader};

use crate::policy::WebhookAuth;
use crate::secret::Secret;

/// Verifies signatures with the secrets in force.
#[derive(Debug)]
pub struct SignatureVerifier {
    auth: WebhookAuth,
    secrets: Vec<Secret>,
    tolerance_secs: i64,
}

/// Maximum length of a body whose refusal is explained, in bytes.
const MAX_EXPLAINED_BODY: usize = 256 << 10;
/// Bytes that the search for a cause may write and hash. This takes some milliseconds.
const DIAGNOSIS_BUDGET: u64 = 4 << 20;

/// Why a signature is refused. The answer says no more than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureRefusal {
    /// There is no signature header.
    Missing,
    /// The header is malformed, or none of its digests fits the body.
    Wrong,
    /// The signed time lies outside the tolerance.
    OutsideTolerance,
}

/// The signature header of a request whose body is not verified yet. It may be `None` only if none is required.
#[derive(Debug, PartialEq, Eq)]
pub struct ClaimedSignature(Option<SignatureHeader>);

impl SignatureRefusal {
    /// Returns the reason for the sender and the list of attempts.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "signature missing",
            Self::Wrong => "signature wrong",
            Self::OutsideTolerance => "signature too old",
        }
    }
}

impl SignatureVerifier {
    /// Accepts signatures by any of `secrets`.
    #[must_use]
    pub fn new(auth: WebhookAuth, secrets: Vec<Secret>, tolerance_secs: i64) -> Self {
        Self { auth, secrets, tolerance_secs }
    }

    /// Checks the signature header without the body: that it is present and well-formed, and that its time is valid.
    ///
    /// # Errors
    /// Returns why the header is refused.
    pub fn check_headers(
        &self,
        headers: &[(String, String)],
        now: Timestamp,
    ) -> Result<ClaimedSignature, SignatureRefusal> {
        if self.auth == WebhookAuth::Off {
            return Ok(ClaimedSignature(signature_header(headers).ok()));
        }
        let signature = signature_header(headers)?;
        signature.check_time(now.as_unix_secs(), self.tolerance_secs)?;
        Ok(ClaimedSignature(Some(signature)))
    }

    /// Verifies the signature over the raw body. Returns when it was signed in Unix seconds, or `None` if signatures
    /// are off and there is none.
    ///
    /// # Errors
    /// Returns why the signature is refused.
    pub fn verify(
        &self,
        claim: &ClaimedSignature,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Option<i64>, SignatureRefusal> {
        if self.auth == WebhookAuth::Off {
            // The signed time is part of the dedup key, even if the signature is not verified.
            return Ok(claim.0.as_ref().map(SignatureHeader::unix_secs));
        }
        let signature = claim.0.as_ref().ok_or(SignatureRefusal::Missing)?;
        Ok(Some(signature.verified_time(&self.secrets, body, now.as_unix_secs(), self.tolerance_secs)?))
    }

    /// Returns when a stored delivery was signed, in Unix seconds, or `None` if it has no signature.
    #[must_use]
    pub fn signed_at(&self, headers: &[(String, String)], body: &[u8]) -> Option<i64> {
        let signature = signature_header(headers).ok()?;
        // Of several signatures, the one that verifies counts, however old it is. If the secret was replaced since,
        // none verifies, and the first one counts.
        let latest = i64::MAX - SignatureHeader::FUTURE_SECS;
        let verified = signature.verified_time(&self.secrets, body, latest, i64::MAX);
        Some(verified.unwrap_or_else(|_| signature.unix_secs()))
    }

    /// Whether a body is short enough for [`explain`](Self::explain).
    #[must_use]
    pub fn is_short_enough_to_explain(body: &[u8]) -> bool {
        body.len() <= MAX_EXPLAINED_BODY
    }

    /// Returns the codes of the likely causes if the headers alone explain the refusal; see [`explain`](Self::explain).
    #[must_use]
    pub fn explain_headers(&self, headers: &[(String, String)], now: Timestamp) -> Option<String> {
        diagnose_headers(headers, now.as_unix_secs(), self.tolerance_secs).map(|diagnosis| cause_codes(&diagnosis))
    }

    /// Returns the codes of the likely causes of a refusal, or `None` if the body is too long. The codes contain
    /// nothing that the unverified sender wrote, and the sender does not see them.
    #[must_use]
    pub fn explain(&self, headers: &[(String, String)], body: &[u8], now: Timestamp) -> Option<String> {
        if !Self::is_short_enough_to_explain(body) {
            return None;
        }
        let known = |secret| KnownSecret { label: "", secret, in_use: true };
        let secrets: Vec<_> = self.secrets.iter().map(|secret| known(secret.as_ref())).collect();
        let diagnosis = diagnose(&Request {
            headers,
            body,
            received_at: now.as_unix_secs(),
            tolerance_secs: self.tolerance_secs,
            secrets: &secrets,
            budget: DIAGNOSIS_BUDGET,
        });
        Some(cause_codes(&diagnosis))
    }
}

fn cause_codes(diagnosis: &Diagnosis) -> String {
    match diagnosis {
        Diagnosis::Explained { causes } => causes.iter().map(Cause::code).collect::<Vec<_>>().join(" + "),
        _ => "unexplained".into(),
    }
}

fn signature_header(headers: &[(String, String)]) -> Result<SignatureHeader, SignatureRefusal> {
    let is_present = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(HEADER));
    SignatureHeader::of(headers)
        .map_err(|_| if is_present { SignatureRefusal::Wrong } else { SignatureRefusal::Missing })
}

impl From<SignatureError> for SignatureRefusal {
    fn from(error: SignatureError) -> Self {
        match error {
            SignatureError::TooOld | SignatureError::FromTheFuture => Self::OutsideTolerance,
            SignatureError::Malformed | SignatureError::Mismatch => Self::Wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use callscope_common::signature::sign;

    use super::*;

    fn headers(lines: &[&str]) -> Vec<(String, String)> {
        lines.iter().map(|line| ("elevenlabs-signature".to_owned(), (*line).to_owned())).collect()
    }

    #[test]
    fn a_refusal_says_missing_wrong_or_out_of_time() {
        let verifier = SignatureVerifier::new(WebhookAuth::Required, vec![Secret::new("s".into())], 1800);
        let now = Timestamp::from_unix_secs(10_000).expect("a time");
        let check = |lines: &[&str]| {
            let headers = headers(lines);
            let claim = verifier.check_headers(&headers, now);
            (
                claim.as_ref().map(drop).map_err(|error| *error),
                claim.and_then(|claim| verifier.verify(&claim, b"{}", now)),
            )
        };
        let refused = |refusal| (Err(refusal), Err(refusal));
        assert_eq!(check(&[]), refused(SignatureRefusal::Missing));
        assert_eq!(check(&["nonsense"]), refused(SignatureRefusal::Wrong));
        assert_eq!(check(&[&sign(b"s", 1, b"{}")]), refused(SignatureRefusal::OutsideTolerance));
        assert_eq!(check(&[&sign(b"s", 20_000, b"{}")]), refused(SignatureRefusal::OutsideTolerance));
        // Whether the digest fits is known only with the body.
        assert_eq!(check(&[&sign(b"x", 10_000, b"{}")]), (Ok(()), Err(SignatureRefusal::Wrong)));
        let signed = sign(b"s", 9_999, b"{}");
        assert_eq!(check(&[&signed]), (Ok(()), Ok(Some(9_999))));
        let (time, digest) = signed.split_once(',').expect("two parts");
        assert_eq!(check(&[digest, time]), (Ok(()), Ok(Some(9_999))));
        assert_eq!(check(&[&sign(b"x", 10_000, b"{}"), &signed]), (Ok(()), Ok(Some(9_999))));
        // The age of a stored delivery does not matter, because it was verified when it was received.
        let old = [&sign(b"x", 5, b"{}")[..], &sign(b"s", 7, b"{}")];
        assert_eq!(verifier.signed_at(&headers(&old), b"{}"), Some(7));
        assert_eq!(verifier.signed_at(&headers(&old[..1]), b"{}"), Some(5));
        assert_eq!(verifier.signed_at(&headers(&[]), b"{}"), None);
    }

    #[test]
    fn the_cause_of_a_refusal_is_named_by_its_code() {
        let verifier = SignatureVerifier::new(WebhookAuth::Required, vec![Secret::new("s".into())], 1800);
        let now = Timestamp::from_unix_secs(10_000).expect("a time");
        let explain = |header: Option<String>, body: &[u8]| {
            let headers: Vec<_> = header.into_iter().map(|value| ("elevenlabs-signature".into(), value)).collect();
            verifier.explain(&headers, body, now)
        };
        let signed = |at, body: &[u8]| Some(sign(b"s", at, body));
        assert_eq!(explain(None, b"{}").as_deref(), Some("no_signature"));
        assert_eq!(explain(signed(10_000, b"{\"a\": 1}"), b"{\"a\":1}").as_deref(), Some("body_reserialised"));
        assert_eq!(explain(signed(1, b"{}"), b"{}\n").as_deref(), Some("newline_added + too_old"));
        assert_eq!(explain(Some(sign(b"s\n", 10_000, b"{}")), b"{}").as_deref(), Some("secret_with_blanks"));
        assert_eq!(explain(Some(sign(b"stranger", 10_000, b"{}")), b"{}").as_deref(), Some("unexplained"));
        assert_eq!(explain(None, &vec![b' '; MAX_EXPLAINED_BODY + 1]), None);
    }

    #[test]
    fn no_signature_is_required_while_verification_is_off() {
        let verifier = SignatureVerifier::new(WebhookAuth::Off, vec![], 1800);
        let now = Timestamp::from_unix_secs(10_000).expect("a time");
        let claim = verifier.check_headers(&[], now).expect("a claim");
        assert_eq!(verifier.verify(&claim, b"{}", now), Ok(None));
    }
}
