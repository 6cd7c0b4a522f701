//! Reading JSON whose shape is not to be trusted: any field may be missing, null or of another type.
//!
//! Values stay raw text until they are asked for, so that numbers of any size, key order and nesting of any depth pass
//! through unharmed.

mod not_numbers;

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Number;
use serde_json::value::RawValue;

pub use not_numbers::replace_not_numbers;

/// A JSON object, its values unread. Of a repeated key the last counts.
#[derive(Debug, Default, Clone)]
pub struct Object<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads a text as one JSON object.
    ///
    /// # Errors
    /// Not JSON, or not an object; says where.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Every field, in the order of the text, repeated keys as often as they come.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.fields.iter().map(|(key, value)| (key.as_ref(), *value))
    }

    /// Whether there is such a field, be it null.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.fields.iter().any(|(name, _)| name == key)
    }

    /// The value of `key`, unless it is missing or null.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        let value = self.fields.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)?;
        (value.get() != "null").then_some(value)
    }

    /// Keys and values in their order, those that are null left out.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.fields.iter().filter(|(_, value)| value.get() != "null").map(|(key, value)| (key.as_ref(), *value))
    }

    /// The value of `key`, where it is an object.
    #[must_use]
    pub fn object(&self, key: &str) -> Option<Object<'a>> {
        self.get(key).and_then(object)
    }

    /// The value of `key`, where it is a string.
    #[must_use]
    pub fn string(&self, key: &str) -> Option<String> {
        self.get(key).and_then(string)
    }

    /// The value of `key` as text: a string's content, else the JSON itself.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        self.get(key).map(text)
    }

    /// The value of `key`, where it is a number or a string that spells one.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<Number> {
        self.get(key).and_then(number)
    }

    /// The value of `key` as a whole number, fractions cut off.
    #[must_use]
    pub fn integer(&self, key: &str) -> Option<i64> {
        let number = self.number(key)?;
        #[allow(clippy::cast_possible_truncation)]
        number.as_i64().or_else(|| number.as_f64().map(|float| float as i64))
    }

    /// The value of `key` as a number with a fraction.
    #[must_use]
    pub fn float(&self, key: &str) -> Option<f64> {
        self.number(key)?.as_f64()
    }

    /// The values of `key`, where it is an array; none otherwise.
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

/// Borrows the key where it holds no escapes; serde's own `Cow` never does.
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

/// `value` as an object.
#[must_use]
pub fn object(value: &RawValue) -> Option<Object<'_>> {
    serde_json::from_str(value.get()).ok()
}

/// `value`'s items, where it is an array; none otherwise.
#[must_use]
pub fn array(value: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(value.get()).unwrap_or_default()
}

/// `value`'s content, where it is a string.
#[must_use]
pub fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// `value` as text: a string's content, else the JSON itself.
#[must_use]
pub fn text(value: &RawValue) -> String {
    string(value).unwrap_or_else(|| value.get().to_owned())
}

fn number(value: &RawValue) -> Option<Number> {
    let spelled = string(value);
    serde_json::from_str(spelled.as_deref().unwrap_or_else(|| value.get()).trim()).ok()
}

/// `text` with every lone surrogate escape (`\ud800` without its partner) turned into `\ufffd`.
///
/// Such escapes are allowed by JSON's grammar and sent by some encoders, but name no character.
#[must_use]
pub fn replace_lone_surrogates(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut fixed: Option<Vec<u8>> = None;
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
                fixed.get_or_insert_with(|| bytes.to_vec())[at + 2..at + 6].copy_from_slice(b"fffd");
                at += 6;
            }
            // Past the backslash and what it escapes, so that `\\ud800` is left alone.
            None => at += 2,
        }
    }
    // Only ASCII was exchanged for ASCII, so the copy is still UTF-8.
    match fixed.map(String::from_utf8) {
        Some(Ok(fixed)) => Cow::Owned(fixed),
        _ => Cow::Borrowed(text),
    }
}

enum Surrogate {
    High,
    Low,
}

/// What kind of surrogate the escape at the beginning of `bytes` names, if it is one.
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
    fn deep_nesting_is_carried_not_followed() {
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
        assert!(Object::parse(&deep).unwrap().get("a").is_some());
    }
}
