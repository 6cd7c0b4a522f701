//! Splits a JSON text into tokens, so that texts and numbers can be replaced while every other byte stays as it is.

use callscope_common::json_style::{Tokens, inner};

/// A token of a JSON text. All tokens in order are the whole text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A key, without its quotes.
    Key(&'a str),
    /// A string value without its quotes, and the key before it.
    Text {
        /// The last key that came before.
        key: &'a str,
        /// The text between the quotes, with its escapes.
        inner: &'a str,
    },
    /// A number as it is spelled, and the key before it.
    Number {
        /// The last key that came before.
        key: &'a str,
        /// The number as it is written.
        digits: &'a str,
    },
    /// Brackets, commas, blanks, `true`, `false` or `null`.
    Other(&'a str),
}

/// Returns the tokens of a text that is known to be JSON. It does not recurse, so any depth of nesting is safe.
pub(crate) fn tokens(json: &str) -> impl Iterator<Item = Token<'_>> {
    let (mut tokens, mut rest, mut key) = (Tokens::of(json), json, "");
    std::iter::from_fn(move || {
        // The tokenizer skips blanks, which are the bytes between the last token and the next one.
        let blanks = rest.len() - tokens.rest.len();
        let piece = if blanks > 0 { rest.get(..blanks) } else { tokens.next() }?;
        rest = rest.get(piece.len()..)?;
        Some(match piece.as_bytes().first() {
            Some(b'"') if tokens.rest.starts_with(':') => {
                key = inner(piece);
                Token::Key(key)
            }
            Some(b'"') => Token::Text { key, inner: inner(piece) },
            Some(b'-' | b'0'..=b'9') => Token::Number { key, digits: piece },
            _ => Token::Other(piece),
        })
    })
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
