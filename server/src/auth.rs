//! Authentication by JSON Web Tokens, HS256.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use callscope_common::claims::{Claims, Role};
use callscope_common::{Identifier, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};

use crate::clock;
use crate::secret::Secret;

/// The holder of a token that verified.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The token's `sub`.
    pub username: String,
    /// The token's `uid`.
    pub uid: Option<String>,
    /// What the token allows.
    pub role: Role,
    /// Limits the token to the calls with these identifiers.
    pub calls: Option<Vec<Identifier>>,
    /// When the token expires.
    pub expires: Timestamp,
}

impl Identity {
    /// Returns the token's `uid`, or its `sub` if it has none.
    #[must_use]
    pub fn user_id(&self) -> &str {
        self.uid.as_deref().unwrap_or(&self.username)
    }

    /// Whether the token allows a call under this identifier. If not, it may still allow the call under another one.
    #[must_use]
    pub fn may_name(&self, identifier: &Identifier) -> bool {
        self.calls.as_ref().is_none_or(|calls| calls.contains(identifier))
    }
}

/// Why a token is refused, as its holder is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is no token.
    #[error("no token")]
    Missing,
    /// The token is not valid yet.
    #[error("the token is not valid yet")]
    Early,
    /// The token has expired.
    #[error("the token expired")]
    Expired,
    /// The token is not valid for another reason.
    #[error("the token is not valid")]
    Invalid,
}

/// Verifies and mints tokens.
pub struct Tokens {
    /// Any of these keys verifies.
    decoding: Vec<DecodingKey>,
    /// The first key signs.
    encoding: EncodingKey,
    validation: Validation,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// Verifies and mints tokens with one secret.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self::of(std::slice::from_ref(secret))
    }

    /// Verifies tokens that any of `secrets` signed, and signs new tokens with the first one, so that secrets can be
    /// rotated.
    #[must_use]
    pub fn of(secrets: &[Secret]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.validate_aud = false;
        validation.set_required_spec_claims(&["exp", "sub"]);
        let first = secrets.first().map_or(&b""[..], |secret| secret.expose().as_bytes());
        Self {
            decoding: secrets.iter().map(|secret| DecodingKey::from_secret(secret.expose().as_bytes())).collect(),
            encoding: EncodingKey::from_secret(first),
            validation,
        }
    }

    /// Verifies a token at `now`.
    ///
    /// # Errors
    /// Returns why the token is refused.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Identity, TokenError> {
        let claims = self.verified_claims(token)?;
        if has_critical_extension(token) {
            return Err(TokenError::Invalid);
        }
        let not_before = claims.nbf.as_ref().map(|nbf| nbf.as_f64().ok_or(TokenError::Invalid)).transpose()?;
        if not_before.is_some_and(|secs| secs > now.as_micros() as f64 / 1e6) {
            return Err(TokenError::Early);
        }
        let role = claims.role.known().ok_or(TokenError::Invalid)?;
        let secs = claims.exp.as_f64().ok_or(TokenError::Invalid)?;
        // A time beyond the range of `Timestamp` counts as its end.
        let expires = Timestamp::from_unix_secs_f64(secs)
            .unwrap_or(Timestamp::from_unix_secs(0).unwrap_or(now).plus_secs(i64::MAX));
        if expires <= now {
            return Err(TokenError::Expired);
        }
        Ok(Identity { username: claims.sub, uid: claims.uid, role, calls: claims.calls, expires })
    }

    /// Verifies the signature by any of the keys, and returns the claims.
    fn verified_claims(&self, token: &str) -> Result<Claims, TokenError> {
        use jsonwebtoken::errors::ErrorKind;
        for key in &self.decoding {
            match jsonwebtoken::decode::<Claims>(token, key, &self.validation) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) => match error.kind() {
                    // Another key may have signed it.
                    ErrorKind::InvalidSignature => {}
                    ErrorKind::ExpiredSignature => return Err(TokenError::Expired),
                    _ => return Err(TokenError::Invalid),
                },
            }
        }
        Err(TokenError::Invalid)
    }

    /// Mints a token for `sub` that expires in `ttl_secs`.
    ///
    /// # Errors
    /// Returns an error if the claims cannot be encoded.
    pub fn mint_for(
        &self,
        sub: &str,
        role: Role,
        ttl_secs: i64,
        calls: Option<Vec<Identifier>>,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let now = clock::now();
        let claims = Claims {
            sub: sub.to_owned(),
            exp: now.plus_secs(ttl_secs).as_unix_secs().into(),
            role: role.into(),
            nbf: None,
            calls,
            uid: None,
            jti: Some(uuid::Uuid::new_v4().to_string()),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
    }
}

/// Whether a token requires extensions (RFC 7515, section 4.1.11). None is supported. A header that cannot be read
/// counts as if it did.
fn has_critical_extension(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    let header = BASE64_URL_SAFE_NO_PAD.decode(header).ok();
    let header = header.and_then(|bytes| serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(&bytes).ok());
    header.is_none_or(|header| header.contains_key("crit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_before_its_nbf_is_refused_and_so_is_an_nbf_that_is_not_a_number() {
        let verdict = |nbf: &str| check(&format!(r#"{{"sub":"a","exp":4102444800,"nbf":{nbf}}}"#)).map(|_| ());
        assert_eq!(verdict("4102444700"), Err(TokenError::Early));
        assert_eq!(verdict("4102444700.5"), Err(TokenError::Early));
        for nbf in ["\"soon\"", "null", "true", "[]", "\"1\""] {
            assert_eq!(verdict(nbf), Err(TokenError::Invalid), "{nbf}");
        }
        for nbf in ["0", "-1", "1.5"] {
            assert_eq!(verdict(nbf), Ok(()), "{nbf}");
        }
    }

    #[test]
    fn a_list_of_calls_that_is_null_is_refused() {
        assert_eq!(check(r#"{"sub":"a","exp":4102444800,"calls":null}"#).map(|_| ()), Err(TokenError::Invalid));
        assert!(check(r#"{"sub":"a","exp":4102444800,"calls":[]}"#).is_ok_and(|who| who.calls == Some(Vec::new())));
    }

    #[test]
    fn a_token_that_requires_an_extension_is_refused() {
        use hmac::{Hmac, Mac};
        let now = clock::now();
        let signed = |header: &str| {
            let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
            let text = format!("{}.{}", encode(header), encode(r#"{"sub":"a","exp":4102444800}"#));
            let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&[b'k'; 32]).expect("a key");
            mac.update(text.as_bytes());
            format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
        };
        let tokens = tokens(&"k".repeat(32));
        assert!(tokens.verify(&signed(r#"{"alg":"HS256","typ":"JWT"}"#), now).is_ok());
        for crit in [r#"["b64"]"#, "[]", "null"] {
            let header = format!(r#"{{"alg":"HS256","crit":{crit}}}"#);
            assert!(tokens.verify(&signed(&header), now).is_err(), "{header}");
        }
    }

    #[test]
    fn any_secret_verifies_and_the_first_one_signs() {
        let (old, new) = (Secret::new("o".repeat(32)), Secret::new("n".repeat(32)));
        let now = clock::now();
        let before = Tokens::new(&old).mint_for("ada", Role::Viewer, 60, None).expect("a token");
        let rotating = Tokens::of(&[new.clone(), old.clone()]);
        assert!(rotating.verify(&before, now).is_ok());
        let after = rotating.mint_for("ada", Role::Viewer, 60, None).expect("a token");
        assert!(Tokens::new(&new).verify(&after, now).is_ok());
        assert!(Tokens::new(&old).verify(&after, now).is_err());
        assert!(Tokens::new(&new).verify(&before, now).is_err());
        let expired = Tokens::new(&old).mint_for("ada", Role::Viewer, -60, None).expect("a token");
        assert_eq!(rotating.verify(&expired, now).map(|_| ()), Err(TokenError::Expired));
    }

    fn tokens(secret: &str) -> Tokens {
        Tokens::new(&Secret::new(secret.to_owned()))
    }

    fn claims(json: &str) -> serde_json::Value {
        serde_json::from_str(json).expect("JSON")
    }

    fn signed(json: &str, algorithm: Algorithm) -> String {
        jsonwebtoken::encode(
            &Header::new(algorithm),
            &claims(json),
            &EncodingKey::from_secret(b"k".repeat(32).as_slice()),
        )
        .expect("a token")
    }

    fn check(json: &str) -> Result<Identity, TokenError> {
        let now = clock::now();
        tokens(&"k".repeat(32)).verify(&signed(json, Algorithm::HS256), now)
    }

    #[test]
    fn a_minted_token_verifies() {
        let tokens = tokens(&"k".repeat(32));
        let token = tokens.mint_for("ada", Role::Admin, 60, None).expect("a token");
        let identity = tokens.verify(&token, clock::now()).expect("valid");
        assert_eq!((identity.username.as_str(), identity.role), ("ada", Role::Admin));
        assert_eq!(tokens.verify(&token, identity.expires).map(|_| ()), Err(TokenError::Expired));
    }

    #[test]
    fn a_token_with_a_missing_or_wrong_claim_is_refused() {
        assert!(check(r#"{"sub":"a","exp":4102444800}"#).is_ok_and(|identity| identity.role == Role::Viewer));
        assert_eq!(check(r#"{"sub":"a"}"#).map(|_| ()), Err(TokenError::Invalid));
        assert_eq!(check(r#"{"exp":4102444800}"#).map(|_| ()), Err(TokenError::Invalid));
        assert_eq!(check(r#"{"sub":"a","exp":1}"#).map(|_| ()), Err(TokenError::Expired));
        assert_eq!(check(r#"{"sub":"a","exp":4102444800,"role":"root"}"#).map(|_| ()), Err(TokenError::Invalid));
        assert_eq!(check(r#"{"sub":"a","exp":4102444800,"calls":["a b"]}"#).map(|_| ()), Err(TokenError::Invalid));
    }

    #[test]
    fn other_keys_and_algorithms_are_refused() {
        let now = clock::now();
        let json = r#"{"sub":"a","exp":4102444800}"#;
        let good = tokens(&"k".repeat(32));
        assert!(good.verify(&signed(json, Algorithm::HS256), now).is_ok());
        assert!(tokens(&"x".repeat(32)).verify(&signed(json, Algorithm::HS256), now).is_err());
        assert!(good.verify(&signed(json, Algorithm::HS512), now).is_err());
        let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIiwiZXhwIjo0MTAyNDQ0ODAwfQ.";
        assert!(good.verify(none, now).is_err());
    }
}
