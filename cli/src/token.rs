//! Reads the claims of an access token. Only the server can check its signature.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use callscope_common::claims::Claims;
use callscope_common::{Identifier, Timestamp};

use crate::duration;
use crate::exit::{Failure, Result};
use crate::secret::Secret;

/// Reads the claims of a token without checking its signature.
pub(crate) fn read_claims(token: &Secret) -> Result<Claims> {
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
    // The parser error may quote a claim, but not the signature, which is the only secret part.
    serde_json::from_slice(&claims).map_err(|error| wrong(&format!("its claims are not of the right form: {error}")))
}

/// Returns in words how long a token is still valid, or when it expired.
pub(crate) fn left_in_words(claims: &Claims, now: Timestamp) -> String {
    match claims.secs_left(now) {
        Some(left) if left > 0.0 => format!("for another {}", duration::in_words(left)),
        Some(left) => format!("expired {} ago", duration::in_words(-left)),
        None => "for a time that cannot be read".into(),
    }
}

/// Returns in words which calls a token gives access to.
pub(crate) fn calls_in_words(claims: &Claims) -> String {
    match claims.calls.as_deref() {
        None => "all".into(),
        Some([]) => "none".into(),
        Some(calls) => calls.iter().map(Identifier::as_str).collect::<Vec<_>>().join(" "),
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
        let claims = read_claims(&token(r#"{"sub":"ada","exp":1000,"calls":["a","b"],"new":1}"#)).unwrap();
        assert_eq!((claims.sub.as_str(), claims.role.as_str()), ("ada", "viewer"));
        assert_eq!(calls_in_words(&claims), "a b");
        let at = |secs| Timestamp::from_unix_secs(secs).unwrap();
        assert_eq!(left_in_words(&claims, at(100)), "for another 15m");
        assert_eq!(left_in_words(&claims, at(1000 + 90_061)), "expired 1d 1h ago");
        assert_eq!(claims.secs_left(at(999)), Some(1.0));
    }

    #[test]
    fn what_is_no_token_says_why_and_never_itself() {
        for (text, why) in
            [("hunter2", "1 parts"), ("a.b.c.d", "4 parts"), ("e30.hunter2!.c", "second part is not base64url")]
        {
            let failure = read_claims(&Secret::new(text)).unwrap_err();
            assert!(failure.message.contains(why), "{failure:?}");
            assert!(!failure.message.contains("hunter2"), "{failure:?}");
        }
        assert!(read_claims(&token(r#"{"sub":"a"}"#)).unwrap_err().message.contains("exp"));
    }
}
