//! Enums whose variants are texts on the wire and in the database.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Declares an enum from its variants and their texts.
macro_rules! text_enum {
    ($(#[$meta:meta])* $name:ident, $what:literal { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every variant, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the text of the variant.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::text_enum::UnknownText;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let unknown = crate::text_enum::UnknownText { what: $what, known: &[$($text),+] };
                Self::ALL.iter().copied().find(|known| known.as_str() == text).ok_or(unknown)
            }
        }
    };
}

pub(crate) use text_enum;

/// A text that is not a variant of an enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a {what}; one of {}", known.join(", "))]
pub struct UnknownText {
    /// What a variant is, for the error: `verdict`.
    pub(crate) what: &'static str,
    /// The texts of its variants.
    pub(crate) known: &'static [&'static str],
}

/// A value of an enum, or a text that this version does not know, because a newer server sent it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OrUnknown<T> {
    /// A variant of the enum.
    Known(T),
    /// A text that is none of its variants.
    Unknown(Box<str>),
}

impl<T: Copy + AsRef<str>> OrUnknown<T> {
    /// Returns the variant, unless the text is unknown.
    #[must_use]
    pub fn known(&self) -> Option<T> {
        match self {
            Self::Known(known) => Some(*known),
            Self::Unknown(_) => None,
        }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(known) => known.as_ref(),
            Self::Unknown(text) => text,
        }
    }
}

impl<T> From<T> for OrUnknown<T> {
    fn from(known: T) -> Self {
        Self::Known(known)
    }
}

impl<T: FromStr> OrUnknown<T> {
    /// Parses a text. An unknown text is kept as it is.
    #[must_use]
    pub fn read(text: String) -> Self {
        text.parse().map_or_else(|_| Self::Unknown(text.into()), Self::Known)
    }
}

impl<T: Default> Default for OrUnknown<T> {
    fn default() -> Self {
        Self::Known(T::default())
    }
}

impl<T: PartialEq> PartialEq<T> for OrUnknown<T> {
    fn eq(&self, other: &T) -> bool {
        matches!(self, Self::Known(known) if known == other)
    }
}

/// Values are ordered by their texts.
impl<T: Copy + Eq + AsRef<str>> Ord for OrUnknown<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl<T: Copy + Eq + AsRef<str>> PartialOrd for OrUnknown<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Copy + AsRef<str>> fmt::Display for OrUnknown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<T: Copy + AsRef<str>> Serialize for OrUnknown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, T: FromStr> Deserialize<'de> for OrUnknown<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Verdict;

    #[test]
    fn a_text_of_a_newer_server_is_kept() {
        for (json, is_known) in [("\"accepted\"", true), ("\"quarantined\"", false)] {
            let verdict: OrUnknown<Verdict> = serde_json::from_str(json).unwrap();
            assert_eq!(verdict.known().is_some(), is_known);
            assert_eq!(serde_json::to_string(&verdict).unwrap(), json);
            assert_eq!(format!("\"{verdict}\""), json);
        }
        assert_eq!("x".parse::<Verdict>().unwrap_err().to_string().split(';').next(), Some("not a verdict"));
    }
}
