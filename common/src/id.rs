//! The identifiers of a call.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of a call. The server generates it and never reuses it.
pub type CallId = Uuid;

/// Any identifier of a call: its `call_sid`, its `conversation_id`, a provider's sid or its call id.
///
/// It has 1 to 128 visible ASCII characters (`!` to `~`) and is compared byte by byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Identifier(Box<str>);

impl Identifier {
    /// Maximum length in bytes.
    pub const MAX_LEN: usize = 128;
    /// The prefix of the call sids that Callscope generates.
    pub const GENERATED_PREFIX: &'static str = "EL_";

    /// Parses an identifier.
    ///
    /// # Errors
    /// Returns what is wrong with `text`, without repeating it.
    pub fn parse(text: &str) -> Result<Self, IdentifierError> {
        if text.is_empty() {
            return Err(IdentifierError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(IdentifierError::TooLong(text.len()));
        }
        match text.bytes().position(|byte| !byte.is_ascii_graphic()) {
            Some(at) => Err(IdentifierError::Invisible(at)),
            None => Ok(Self(text.into())),
        }
    }

    /// Returns the identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this looks like a generated `call_sid`. Then a lookup tries it as a `call_sid` first.
    #[must_use]
    pub fn is_own_sid(&self) -> bool {
        self.0.starts_with(Self::GENERATED_PREFIX)
    }

    /// Returns the call id that the identifier spells, if it spells one.
    #[must_use]
    pub fn as_call_id(&self) -> Option<CallId> {
        // Only the hyphenated form counts: 32 hex digits may be a conversation id.
        (self.0.len() == 36).then(|| Uuid::parse_str(&self.0).ok()).flatten()
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for Identifier {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for Identifier {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl<'de> Deserialize<'de> for Identifier {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// The text is empty.
    #[error("an identifier is empty; it takes 1 to 128 visible ASCII characters")]
    Empty,
    /// The text is too long; its length is in bytes.
    #[error("an identifier is {0} bytes long; it takes 1 to 128 visible ASCII characters")]
    TooLong(usize),
    /// The text contains a character outside visible ASCII, at this byte offset.
    #[error(
        "an identifier has a blank, a control or a non-ASCII character at byte {0}; it takes 1 to 128 visible ASCII \
         characters"
    )]
    Invisible(usize),
}

/// Whether `subject` may be a part of a generated `call_sid`: 1 to 64 of `A-Za-z0-9._-`.
#[must_use]
pub fn is_subject(subject: &str) -> bool {
    (1..=64).contains(&subject.len())
        && subject.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_visible_ascii_of_bounded_length() {
        assert!(Identifier::parse("EL_dispatch_1790855035").is_ok());
        assert!(Identifier::parse(&"x".repeat(128)).is_ok());
        assert_eq!(Identifier::parse(""), Err(IdentifierError::Empty));
        assert_eq!(Identifier::parse(&"x".repeat(129)), Err(IdentifierError::TooLong(129)));
        assert_eq!(Identifier::parse("a b"), Err(IdentifierError::Invisible(1)));
        assert_eq!(Identifier::parse("a\u{7f}"), Err(IdentifierError::Invisible(1)));
        assert_eq!(Identifier::parse("é"), Err(IdentifierError::Invisible(0)));
    }

    #[test]
    fn only_the_hyphenated_form_is_a_call_id() {
        let id = Uuid::from_u128(7);
        assert_eq!(Identifier::parse(&id.to_string()).unwrap().as_call_id(), Some(id));
        assert_eq!(Identifier::parse(&id.simple().to_string()).unwrap().as_call_id(), None);
    }

    #[test]
    fn subjects_are_limited_to_some_characters_and_a_length() {
        assert!(is_subject("tow-truck_7.a"));
        assert!(!is_subject(""));
        assert!(!is_subject("a b"));
        assert!(!is_subject(&"x".repeat(65)));
    }
}
