//! Whether a webhook's bytes are to be believed.

use callscope_common::Timestamp;
use callscope_common::signature::{SignatureError, SignatureHeader};

use crate::settings::{Secret, WebhookAuth};

/// Checks signatures against the secrets in force.
#[derive(Debug)]
pub struct Checker {
    auth: WebhookAuth,
    secrets: Vec<Secret>,
    tolerance_secs: i64,
}

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
    fn nothing_is_asked_for_where_it_is_off() {
        let checker = Checker::new(WebhookAuth::Off, vec![], 1800);
        let now = Timestamp::from_unix_secs(10_000).expect("a time");
        assert_eq!(checker.check(None, b"{}", now), Ok(None));
    }
}
