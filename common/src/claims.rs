//! The claims of a JSON Web Token.

use serde::{Deserialize, Deserializer, Serialize};

use crate::text_enum::text_enum;
use crate::{Identifier, OrUnknown, Timestamp};

text_enum! {
    /// What the holder of a token may do.
    #[derive(Default)]
    Role, "role" {
        /// May only read.
        #[default]
        Viewer = "viewer",
        /// May read and write.
        Admin = "admin",
    }
}

/// The claims of a token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    /// The holder of the token.
    pub sub: String,
    /// When the token expires, in Unix seconds.
    pub exp: serde_json::Number,
    /// What the token allows.
    #[serde(default)]
    pub role: OrUnknown<Role>,
    /// When the token becomes valid, in Unix seconds. Null is refused.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "required_non_null")]
    pub nbf: Option<serde_json::Number>,
    /// Limits the token to the calls with these identifiers. Null is refused, because it does not say which.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "required_non_null")]
    pub calls: Option<Vec<Identifier>>,
    /// The id of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The id of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
}

impl Claims {
    /// Returns when the token expires, or `None` if `exp` is not a time.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        self.exp.as_f64().and_then(Timestamp::from_unix_secs_f64)
    }

    /// Returns for how many seconds the token is still valid at `now`, or `None` if `exp` is not a time. The number is
    /// negative once the token has expired.
    #[must_use]
    pub fn secs_left(&self, now: Timestamp) -> Option<f64> {
        self.expires().map(|expires| expires.secs_since(now))
    }
}

/// Reads a claim that is present. Null is an error, while serde would read it as a missing claim.
fn required_non_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(claim: D) -> Result<Option<T>, D::Error> {
    T::deserialize(claim).map(Some)
}
