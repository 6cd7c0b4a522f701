//! Who somebody is: JSON Web Tokens, HS256.

use std::time::SystemTime;

use callscope_common::{Identifier, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::settings::Secret;

/// What a token's holder may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    #[default]
    Viewer,
    /// Reads and writes.
    Admin,
}

impl Role {
    /// As the token spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        }
    }
}

/// A token's claims.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    /// Whose.
    pub sub: String,
    /// Until when, in Unix seconds.
    pub exp: serde_json::Number,
    /// What it allows.
    #[serde(default)]
    pub role: Role,
    /// Limits it to the calls of these identifiers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Vec<Identifier>>,
    /// The user's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The token's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
}

/// Whoever holds a token that verified.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The token's `sub`.
    pub username: String,
    /// The token's `uid`.
    pub uid: Option<String>,
    /// What it allows.
    pub role: Role,
    /// Limits it to the calls of these identifiers.
    pub calls: Option<Vec<Identifier>>,
    /// Until when.
    pub expires: Timestamp,
}

impl Identity {
    /// The token's `uid`, else its `sub`.
    #[must_use]
    pub fn user_id(&self) -> &str {
        self.uid.as_deref().unwrap_or(&self.username)
    }

    /// Whether the token allows naming a call so. Where it does not, the call may still be allowed under another name.
    #[must_use]
    pub fn may_name(&self, identifier: &Identifier) -> bool {
        self.calls.as_ref().is_none_or(|calls| calls.contains(identifier))
    }
}

/// Why a token is refused. Its text is for the token's holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error("no token")]
    Missing,
    /// Its time ran out.
    #[error("the token expired")]
    Expired,
    /// Anything else.
    #[error("the token is not valid")]
    Invalid,
}

/// Checks and makes tokens.
pub struct Tokens {
    decoding: DecodingKey,
    encoding: EncodingKey,
    validation: Validation,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// For tokens signed with `secret`.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.validate_aud = false;
        validation.set_required_spec_claims(&["exp", "sub"]);
        Self {
            decoding: DecodingKey::from_secret(secret.expose().as_bytes()),
            encoding: EncodingKey::from_secret(secret.expose().as_bytes()),
            validation,
        }
    }

    /// Checks a token at `now`.
    ///
    /// # Errors
    /// [`TokenError::Expired`] or [`TokenError::Invalid`].
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Identity, TokenError> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .map_err(|error| match error.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature => TokenError::Expired,
                _ => TokenError::Invalid,
            })?
            .claims;
        let secs = claims.exp.as_f64().ok_or(TokenError::Invalid)?;
        let expires = Timestamp::from_unix_secs_f64(secs)
            .unwrap_or(Timestamp::from_unix_secs(0).unwrap_or(now).plus_secs(i64::MAX));
        if expires <= now {
            return Err(TokenError::Expired);
        }
        Ok(Identity { username: claims.sub, uid: claims.uid, role: claims.role, calls: claims.calls, expires })
    }

    /// Makes a token.
    ///
    /// # Errors
    /// The claims cannot be encoded.
    pub fn mint(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding)
    }

    /// Makes a token for `sub` that expires `ttl_secs` from now.
    ///
    /// # Errors
    /// The claims cannot be encoded.
    pub fn mint_for(
        &self,
        sub: &str,
        role: Role,
        ttl_secs: i64,
        calls: Option<Vec<Identifier>>,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let now = Timestamp::from_system_time(SystemTime::now());
        self.mint(&Claims {
            sub: sub.to_owned(),
            exp: now.plus_secs(ttl_secs).as_unix_secs().into(),
            role,
            calls,
            uid: None,
            jti: Some(uuid::Uuid::new_v4().to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let now = Timestamp::from_system_time(SystemTime::now());
        tokens(&"k".repeat(32)).verify(&signed(json, Algorithm::HS256), now)
    }

    #[test]
    fn a_minted_token_verifies() {
        let tokens = tokens(&"k".repeat(32));
        let token = tokens.mint_for("ada", Role::Admin, 60, None).expect("a token");
        let identity = tokens.verify(&token, Timestamp::from_system_time(SystemTime::now())).expect("valid");
        assert_eq!((identity.username.as_str(), identity.role), ("ada", Role::Admin));
        assert_eq!(tokens.verify(&token, identity.expires).map(|_| ()), Err(TokenError::Expired));
    }

    #[test]
    fn what_lacks_a_claim_or_has_a_wrong_one_is_refused() {
        assert!(check(r#"{"sub":"a","exp":4102444800}"#).is_ok_and(|identity| identity.role == Role::Viewer));
        assert_eq!(check(r#"{"sub":"a"}"#).map(|_| ()), Err(TokenError::Invalid));
        assert_eq!(check(r#"{"exp":4102444800}"#).map(|_| ()), Err(TokenError::Invalid));
        assert_eq!(check(r#"{"sub":"a","exp":1}"#).map(|_| ()), Err(TokenError::Expired));
        assert_eq!(check(r#"{"sub":"a","exp":4102444800,"role":"root"}"#).map(|_| ()), Err(TokenError::Invalid));
        assert_eq!(check(r#"{"sub":"a","exp":4102444800,"calls":["a b"]}"#).map(|_| ()), Err(TokenError::Invalid));
    }

    #[test]
    fn other_keys_and_algorithms_are_refused() {
        let now = Timestamp::from_system_time(SystemTime::now());
        let json = r#"{"sub":"a","exp":4102444800}"#;
        let good = tokens(&"k".repeat(32));
        assert!(good.verify(&signed(json, Algorithm::HS256), now).is_ok());
        assert!(tokens(&"x".repeat(32)).verify(&signed(json, Algorithm::HS256), now).is_err());
        assert!(good.verify(&signed(json, Algorithm::HS512), now).is_err());
        let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIiwiZXhwIjo0MTAyNDQ0ODAwfQ.";
        assert!(good.verify(none, now).is_err());
    }
}
