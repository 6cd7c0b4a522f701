//! A JSON text as a row of tokens: enough to exchange texts and numbers in it and leave every other byte as it is.

use callscope_common::json_style::string_length;

/// A piece of a JSON text. Put together again, the pieces are the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A key, without its quotes.
    Key(&'a str),
    /// A string value without its quotes, and the key before it.
    Text {
        /// The last key that came before.
        key: &'a str,
        /// With its escapes as they are.
        inner: &'a str,
    },
    /// A number as it is spelled, and the key before it.
    Number {
        /// The last key that came before.
        key: &'a str,
        /// As it is spelled.
        digits: &'a str,
    },
    /// Brackets, commas, blanks, words.
    Other(&'a str),
}

/// The tokens of a text that is known to be JSON. Needs no stack, however deep the text is nested.
pub(crate) fn tokens(json: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = json;
    let mut key = "";
    std::iter::from_fn(move || {
        let first = *rest.as_bytes().first()?;
        let length = match first {
            b'"' => string_length(rest),
            b'-' | b'0'..=b'9' => {
                length_while(rest, |byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
            }
            _ => length_while(rest, |byte| !matches!(byte, b'"' | b'-' | b'0'..=b'9')),
        };
        let (token, after) = rest.split_at_checked(length)?;
        rest = after;
        Some(match first {
            b'"' => {
                let inner = token.get(1..token.len() - 1).unwrap_or_default();
                if after.trim_start().starts_with(':') {
                    key = inner;
                    Token::Key(inner)
                } else {
                    Token::Text { key, inner }
                }
            }
            b'-' | b'0'..=b'9' => Token::Number { key, digits: token },
            _ => Token::Other(token),
        })
    })
}

fn length_while(text: &str, belongs: impl Fn(u8) -> bool) -> usize {
    text.bytes().position(|byte| !belongs(byte)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_numbers_know_their_keys() {
        let found: Vec<_> = tokens(r#"{"a" : "x\"y", "b":[-1.5e3,"z"], "c":null}"#)
            .filter(|token| !matches!(token, Token::Other(_)))
            .collect();
        assert_eq!(
            found,
            [
                Token::Key("a"),
                Token::Text { key: "a", inner: r#"x\"y"# },
                Token::Key("b"),
                Token::Number { key: "b", digits: "-1.5e3" },
                Token::Text { key: "b", inner: "z" },
                Token::Key("c"),
            ]
        );
    }

    #[test]
    fn the_pieces_are_the_text() {
        let json = r#" {"a":"é\\","b":[1,{"c":"東"}],"":true} "#;
        let again: String = tokens(json)
            .map(|token| match token {
                Token::Key(inner) | Token::Text { inner, .. } => format!("\"{inner}\""),
                Token::Number { digits, .. } => digits.to_owned(),
                Token::Other(other) => other.to_owned(),
            })
            .collect();
        assert_eq!(again, json);
    }
}
