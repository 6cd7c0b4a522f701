//! `NaN` and the infinities, which Python and others write into JSON although its grammar has no such values.

use std::borrow::Cow;

const NOT_NUMBERS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Replaces every value `NaN`, `Infinity` and `-Infinity` by `null`. Strings are not changed.
#[must_use]
pub fn replace_not_numbers(text: &str) -> Cow<'_, str> {
    // Nearly no body has such a word, and searching for one is much faster than parsing.
    if !text.contains("NaN") && !text.contains("Infinity") {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut fixed = String::new();
    let (mut at, mut copied) = (0, 0);
    let mut may_begin = true;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += crate::json_style::string_length(text.get(at..).unwrap_or_default()).max(1);
                may_begin = false;
            }
            b'N' | b'I' | b'-' if may_begin && let Some(word) = word(&bytes[at..]) => {
                fixed.push_str(text.get(copied..at).unwrap_or_default());
                fixed.push_str("null");
                at += word.len();
                copied = at;
                may_begin = false;
            }
            byte => {
                may_begin = is_between(byte);
                at += 1;
            }
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    fixed.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(fixed)
}

/// Returns the word at the beginning of `bytes`, if it is a whole value.
fn word(bytes: &[u8]) -> Option<&'static str> {
    let word = NOT_NUMBERS.into_iter().find(|word| bytes.starts_with(word.as_bytes()))?;
    bytes.get(word.len()).is_none_or(|next| is_between(*next)).then_some(word)
}

/// Whether a byte may stand directly before or after a value.
fn is_between(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' | b'[' | b']' | b'{' | b'}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_are_replaced() {
        for (text, fixed) in [
            ("NaN", "null"),
            (r#"{"a":NaN,"b": -Infinity ,"c":[Infinity,NaN]}"#, r#"{"a":null,"b": null ,"c":[null,null]}"#),
            (r#"{"NaN":"NaN, Infinity","\"":NaN,"e":"\\"}"#, r#"{"NaN":"NaN, Infinity","\"":null,"e":"\\"}"#),
            (r#"{"Infinity":"é\u00e9"}"#, r#"{"Infinity":"é\u00e9"}"#),
            ("[NaNo, xNaN, --Infinity, 1NaN, Infinity1]", "[NaNo, xNaN, --Infinity, 1NaN, Infinity1]"),
            ("\"NaN", "\"NaN"),
        ] {
            assert_eq!(replace_not_numbers(text), fixed, "{text}");
        }
    }
}
