//! What an access token says of itself. Only the server can tell whether it is genuine.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use callscope_common::Timestamp;
use serde::{Deserialize, Serialize};

use crate::duration;
use crate::exit::{Failure, Result};
use crate::secret::Secret;

/// A token's claims.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Whose it is.
    pub(crate) sub: String,
    /// Until when it holds, in Unix seconds.
    pub(crate) exp: serde_json::Number,
    /// What it allows; a viewer's where it says nothing.
    #[serde(default = "viewer")]
    pub(crate) role: String,
    /// The calls it is limited to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) calls: Option<Vec<String>>,
    /// The user's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<String>,
    /// What it is revoked by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) jti: Option<String>,
}

fn viewer() -> String {
    "viewer".into()
}

impl Claims {
    /// Reads a token without checking its signature.
    pub(crate) fn of(token: &Secret) -> Result<Self> {
        let wrong = |why: &str| {
            Failure::error(format!("this is no access token: {why}"))
                .hint("a token is one line of three parts between dots; callscope-server token makes one")
        };
        let parts: Vec<&str> = token.expose().trim().split('.').collect();
        let [head, claims, _] = parts.as_slice() else {
            return Err(wrong(&format!("it has {} parts between dots where there should be 3", parts.len())));
        };
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok();
        decode(head).ok_or_else(|| wrong("its first part is not base64url"))?;
        let claims = decode(claims).ok_or_else(|| wrong("its second part is not base64url"))?;
        // The parser's words may quote a value, but never the signature, which is all that is secret here.
        serde_json::from_slice(&claims)
            .map_err(|error| wrong(&format!("its claims are not of the right form: {error}")))
    }

    /// Until when it holds.
    pub(crate) fn expires(&self) -> Option<Timestamp> {
        self.exp.as_f64().and_then(Timestamp::from_unix_secs_f64)
    }

    /// Seconds for which it still holds at `now`; none where it does not say.
    pub(crate) fn left(&self, now: Timestamp) -> Option<f64> {
        self.expires().map(|expires| expires.secs_since(now))
    }

    /// Whether its time is over at `now`.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.left(now).is_some_and(|left| left <= 0.0)
    }

    /// How long it still holds, in words.
    pub(crate) fn left_in_words(&self, now: Timestamp) -> String {
        match self.left(now) {
            Some(left) if left > 0.0 => format!("for another {}", duration::in_words(left)),
            Some(left) => format!("expired {} ago", duration::in_words(-left)),
            None => "for a time that cannot be read".into(),
        }
    }

    /// The calls it allows, in words.
    pub(crate) fn calls_in_words(&self) -> String {
        match &self.calls {
            None => "all".into(),
            Some(calls) if calls.is_empty() => "none".into(),
            Some(calls) => calls.join(" "),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn token(claims: &str) -> Secret {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        Secret::new(&format!("{}.{}.{}", part(r#"{"alg":"HS256"}"#), part(claims), part("signature")))
    }

    #[test]
    fn a_token_tells_its_claims_and_how_long_it_holds() {
        let claims = Claims::of(&token(r#"{"sub":"ada","exp":1000,"calls":["a","b"],"new":1}"#)).unwrap();
        assert_eq!((claims.sub.as_str(), claims.role.as_str()), ("ada", "viewer"));
        assert_eq!(claims.calls_in_words(), "a b");
        let at = |secs| Timestamp::from_unix_secs(secs).unwrap();
        assert_eq!(claims.left_in_words(at(100)), "for another 15m");
        assert_eq!(claims.left_in_words(at(1000 + 90_061)), "expired 1d 1h ago");
        assert!(claims.is_expired(at(1000)) && !claims.is_expired(at(999)));
    }

    #[test]
    fn what_is_no_token_says_why_and_never_itself() {
        for (text, why) in
            [("hunter2", "1 parts"), ("a.b.c.d", "4 parts"), ("e30.hunter2!.c", "second part is not base64url")]
        {
            let failure = Claims::of(&Secret::new(text)).unwrap_err();
            assert!(failure.message.contains(why), "{failure:?}");
            assert!(!failure.message.contains("hunter2"), "{failure:?}");
        }
        assert!(Claims::of(&token(r#"{"sub":"a"}"#)).unwrap_err().message.contains("exp"));
    }
}
