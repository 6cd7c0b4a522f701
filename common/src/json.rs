//! Reads JSON of unknown shape: any field may be missing, null or of another type.
//!
//! A value stays raw text until it is read. So numbers of any size, the order of keys and nesting of any depth are
//! preserved.

mod not_numbers;

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Number;
use serde_json::value::RawValue;

pub use not_numbers::replace_not_numbers;

/// A JSON object whose values are not parsed yet. If a key is repeated, its last value counts.
#[derive(Debug, Default, Clone)]
pub struct Object<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Parses a text as one JSON object.
    ///
    /// # Errors
    /// Returns an error, with its place, if the text is not a JSON object.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Returns all fields in the order of the text, with repeated keys and null values.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.fields.iter().map(|(key, value)| (key.as_ref(), *value))
    }

    /// Whether the object has this key, also with the value null.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.fields.iter().any(|(name, _)| name == key)
    }

    /// Returns the value of `key`, or `None` if it is missing or null.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        let value = self.fields.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)?;
        (value.get() != "null").then_some(value)
    }

    /// Returns the fields that are not null, in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.fields.iter().filter(|(_, value)| value.get() != "null").map(|(key, value)| (key.as_ref(), *value))
    }

    /// Returns the value of `key` if it is an object.
    #[must_use]
    pub fn object(&self, key: &str) -> Option<Object<'a>> {
        self.get(key).and_then(object)
    }

    /// Returns the value of `key` if it is a string.
    #[must_use]
    pub fn string(&self, key: &str) -> Option<String> {
        self.get(key).and_then(string)
    }

    /// Returns the value of `key` as text: the content of a string, or else the JSON itself.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        self.get(key).map(text)
    }

    /// Returns the value of `key` if it is a number, or a string that contains a number.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<Number> {
        self.get(key).and_then(number)
    }

    /// Returns the value of `key` as a whole number, without its fraction.
    #[must_use]
    pub fn integer(&self, key: &str) -> Option<i64> {
        let number = self.number(key)?;
        #[allow(clippy::cast_possible_truncation)]
        number.as_i64().or_else(|| number.as_f64().map(|float| float as i64))
    }

    /// Returns the value of `key` as a float.
    #[must_use]
    pub fn float(&self, key: &str) -> Option<f64> {
        self.number(key)?.as_f64()
    }

    /// Returns the items of `key` if it is an array, or else an empty list.
    #[must_use]
    pub fn array(&self, key: &str) -> Vec<&'a RawValue> {
        self.get(key).map(array).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    fields.push((key, value));
                }
                Ok(Object { fields })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// A key. It is borrowed if it contains no escapes, which serde's `Cow` never does.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Parses `value` as an object.
#[must_use]
pub fn object(value: &RawValue) -> Option<Object<'_>> {
    serde_json::from_str(value.get()).ok()
}

/// Returns the items of `value` if it is an array, or else an empty list.
#[must_use]
pub fn array(value: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(value.get()).unwrap_or_default()
}

/// Returns the content of `value` if it is a string.
#[must_use]
pub fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// Returns `value` as text: the content of a string, or else the JSON itself.
#[must_use]
pub fn text(value: &RawValue) -> String {
    string(value).unwrap_or_else(|| value.get().to_owned())
}

fn number(value: &RawValue) -> Option<Number> {
    let quoted = string(value);
    serde_json::from_str(quoted.as_deref().unwrap_or_else(|| value.get()).trim()).ok()
}

/// Replaces every escape of a lone surrogate (`\ud800` without its partner) in a JSON text by `\ufffd`.
///
/// JSON's grammar allows such escapes and some encoders send them, but they are not characters.
#[must_use]
pub fn replace_lone_surrogates(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut repaired: Option<Vec<u8>> = None;
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        match surrogate(&bytes[at..]) {
            Some(Surrogate::High)
                if matches!(surrogate(bytes.get(at + 6..).unwrap_or_default()), Some(Surrogate::Low)) =>
            {
                at += 12;
            }
            Some(_) => {
                repaired.get_or_insert_with(|| bytes.to_vec())[at + 2..at + 6].copy_from_slice(b"fffd");
                at += 6;
            }
            // This skips the escaped character, too, so that `\\ud800` is not changed.
            None => at += 2,
        }
    }
    // ASCII was replaced by ASCII, so the copy is still UTF-8.
    match repaired.map(String::from_utf8) {
        Some(Ok(repaired)) => Cow::Owned(repaired),
        _ => Cow::Borrowed(text),
    }
}

enum Surrogate {
    High,
    Low,
}

/// Returns the kind of the surrogate whose escape is at the beginning of `bytes`.
fn surrogate(bytes: &[u8]) -> Option<Surrogate> {
    let [b'\\', b'u', b'd' | b'D', second, third, fourth, ..] = bytes else { return None };
    if !third.is_ascii_hexdigit() || !fourth.is_ascii_hexdigit() {
        return None;
    }
    match second {
        b'8' | b'9' | b'a' | b'b' | b'A' | b'B' => Some(Surrogate::High),
        b'c'..=b'f' | b'C'..=b'F' => Some(Surrogate::Low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_leniently() {
        let text = r#"{"a":"7","b":7.9,"c":null,"d":{"e":[1,2]},"a":"8","big":1e400,"\u0066":true}"#;
        let object = Object::parse(text).unwrap();
        assert_eq!(object.integer("a"), Some(8));
        assert_eq!(object.integer("b"), Some(7));
        assert!(object.get("c").is_none());
        assert_eq!(object.object("d").unwrap().array("e").len(), 2);
        assert_eq!(object.number("big"), None);
        assert_eq!(object.text("big").unwrap(), "1e400");
        assert_eq!(object.text("f").unwrap(), "true");
        assert!(Object::parse("[]").is_err());
    }

    #[test]
    fn only_lone_surrogates_are_replaced() {
        for (raw, fixed) in [
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\uD83D\ud83d\uDE00""#, r#""\ufffd\ud83d\uDE00""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\ud8"#, r#""\ud8"#),
        ] {
            assert_eq!(replace_lone_surrogates(raw), fixed);
        }
    }

    #[test]
    fn deep_nesting_is_kept_as_raw_text() {
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
        assert!(Object::parse(&deep).unwrap().get("a").is_some());
    }
}
