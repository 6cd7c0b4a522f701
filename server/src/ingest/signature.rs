//! Whether a webhook's bytes are to be believed.

use callscope_common::Timestamp;
use callscope_common::signature::diagnosis::{Cause, Diagnosis, KnownSecret, Request, diagnose};
use callscope_common::signature::{SignatureError, SignatureHeader};

use crate::settings::{Secret, WebhookAuth};

/// Checks signatures against the secrets in force.
#[derive(Debug)]
pub struct Checker {
    auth: WebhookAuth,
    secrets: Vec<Secret>,
    tolerance_secs: i64,
}

/// Longest body that the cause of a refusal is looked for in, and most bytes hashed in search of it.
const MAX_EXPLAINED: usize = 256 << 10;
const BUDGET: u64 = 1 << 20;

/// What was wrong with an attempt. The sender hears no more than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unverified {
    /// There was no header.
    Missing,
    /// The header is malformed, or no digest fits.
    Wrong,
    /// The signed time lies outside the tolerance.
    OutOfTime,
}

impl Unverified {
    /// For the sender and the list of attempts.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "signature missing",
            Self::Wrong => "signature wrong",
            Self::OutOfTime => "signature too old",
        }
    }
}

impl Checker {
    /// A checker of these settings.
    #[must_use]
    pub fn new(auth: WebhookAuth, secrets: Vec<Secret>, tolerance_secs: i64) -> Self {
        Self { auth, secrets, tolerance_secs }
    }

    /// Checks the signature over the raw body; returns the signed time, `None` where none is needed.
    ///
    /// # Errors
    /// [`Unverified`].
    pub fn check(&self, header: Option<&str>, body: &[u8], now: Timestamp) -> Result<Option<i64>, Unverified> {
        if self.auth == WebhookAuth::Off {
            // Where one stands, its time still tells two deliveries apart.
            return Ok(header.and_then(|header| SignatureHeader::parse(header).ok()).map(|header| header.unix_secs));
        }
        let header = SignatureHeader::parse(header.ok_or(Unverified::Missing)?).map_err(|_| Unverified::Wrong)?;
        match header.verify(&self.secrets, body, now.as_unix_secs(), self.tolerance_secs) {
            Ok(()) => Ok(Some(header.unix_secs)),
            Err(SignatureError::TooOld | SignatureError::FromTheFuture) => Err(Unverified::OutOfTime),
            Err(SignatureError::Malformed | SignatureError::Mismatch) => Err(Unverified::Wrong),
        }
    }

    /// The likely causes of a refusal, by name and nothing else: they are kept of what nobody has verified. The sender does not
    /// hear them. `None` where the body is too long to look for them.
    #[must_use]
    pub fn explain(&self, headers: &[(String, String)], body: &[u8], now: Timestamp) -> Option<String> {
        if body.len() > MAX_EXPLAINED {
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
            budget: BUDGET,
        });
        match &diagnosis {
            Diagnosis::Explained { causes } => Some(causes.iter().map(Cause::code).collect::<Vec<_>>().join(" + ")),
            _ => Some("unexplained".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use callscope_common::signature::sign;

    use super::*;

    #[test]
    fn says_which_and_no_more() {
        let checker = Checker::new(WebhookAuth::Required, vec![Secret::new("s".into())], 1800);
        let now = Timestamp::from_unix_secs(10_000).expect("a time");
        assert_eq!(checker.check(None, b"{}", now), Err(Unverified::Missing));
        assert_eq!(checker.check(Some("nonsense"), b"{}", now), Err(Unverified::Wrong));
        assert_eq!(checker.check(Some(&sign(b"x", 10_000, b"{}")), b"{}", now), Err(Unverified::Wrong));
        assert_eq!(checker.check(Some(&sign(b"s", 1, b"{}")), b"{}", now), Err(Unverified::OutOfTime));
        assert_eq!(checker.check(Some(&sign(b"s", 9_999, b"{}")), b"{}", now), Ok(Some(9_999)));
    }

    #[test]
    fn the_cause_of_a_refusal_is_named_and_nothing_of_it_kept() {
        let checker = Checker::new(WebhookAuth::Required, vec![Secret::new("s".into())], 1800);
        let now = Timestamp::from_unix_secs(10_000).expect("a time");
        let explain = |header: Option<String>, body: &[u8]| {
            let headers: Vec<_> = header.into_iter().map(|value| ("elevenlabs-signature".into(), value)).collect();
            checker.explain(&headers, body, now)
        };
        let signed = |at, body: &[u8]| Some(sign(b"s", at, body));
        assert_eq!(explain(None, b"{}").as_deref(), Some("no_signature"));
        assert_eq!(explain(signed(10_000, b"{\"a\": 1}"), b"{\"a\":1}").as_deref(), Some("body_reserialised"));
        assert_eq!(explain(signed(1, b"{}"), b"{}\n").as_deref(), Some("newline_added + too_old"));
        assert_eq!(explain(Some(sign(b"s\n", 10_000, b"{}")), b"{}").as_deref(), Some("secret_with_blanks"));
        assert_eq!(explain(Some(sign(b"stranger", 10_000, b"{}")), b"{}").as_deref(), Some("unexplained"));
        assert_eq!(explain(None, &vec![b' '; MAX_EXPLAINED + 1]), None);
    }

    #[test]
    fn nothing_is_asked_for_where_it_is_off() {
        let checker = Checker::new(WebhookAuth::Off, vec![], 1800);
        let now = Timestamp::from_unix_secs(10_000).expect("a time");
        assert_eq!(checker.check(None, b"{}", now), Ok(None));
    }
}
