//! The codes of error messages.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The `code` of an error message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// No call has that identifier.
    CallNotFound,
    /// The text is not an identifier.
    InvalidIdentifier,
    /// The text is not a message of this protocol.
    InvalidMessageFormat,
    /// The token is missing or not valid.
    AuthenticationFailed,
    /// The server could not subscribe at present.
    SubscriptionFailed,
    /// The token does not allow the request.
    Forbidden,
    /// The cursor belongs to another record, or lies beyond the head.
    CursorInvalid,
    /// The connection has the maximum number of subscriptions.
    SubscriptionLimit,
    /// The client sent too many messages in a second.
    RateLimited,
    /// A code that this version does not know.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
