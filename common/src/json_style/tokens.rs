//! Splits JSON into tokens.

/// Returns the names of the first `max` fields that have whole numbers as values, alone or in a list. Each name is
/// listed once.
#[must_use]
pub fn whole_number_fields(json: &str, max: usize) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    let mut tokens = Tokens::of(json);
    while let Some(token) = tokens.next() {
        if is_whole(token)
            && let Some(key) = tokens.key
            && !names.contains(&key)
        {
            names.push(key);
            if names.len() >= max {
                break;
            }
        }
    }
    names
}

fn is_whole(token: &str) -> bool {
    token.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && !token.contains(['.', 'e', 'E'])
}

/// The tokens of a text that is known to be JSON, without the white space between them. They need no stack, however
/// deep the text is nested.
#[derive(Debug)]
pub struct Tokens<'a> {
    /// The text that is not read yet. It begins with a token.
    pub rest: &'a str,
    /// The name of the current field, with its escapes; `None` after the beginning or the end of an object.
    pub key: Option<&'a str>,
}

impl<'a> Tokens<'a> {
    /// Reads `json` from its start.
    #[must_use]
    pub fn of(json: &'a str) -> Self {
        Self { rest: json.trim_start(), key: None }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let first = self.rest.chars().next()?;
        let length = match first {
            '"' => string_length(self.rest),
            '{' | '}' | '[' | ']' | ',' | ':' => 1,
            _ => self.rest.find([',', ':', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(self.rest.len()),
        };
        let (token, after) = self.rest.split_at_checked(length.max(1))?;
        self.rest = after.trim_start_matches([' ', '\t', '\n', '\r']);
        match first {
            '"' if self.rest.starts_with(':') => self.key = Some(inner(token)),
            '{' | '}' => self.key = None,
            _ => {}
        }
        Some(token)
    }
}

/// Returns the text between the quotes of a string.
#[must_use]
pub fn inner(token: &str) -> &str {
    token.get(1..token.len().saturating_sub(1)).unwrap_or_default()
}

/// Returns the length in bytes of the JSON string at the beginning of `text`, with its quotes.
pub(crate) fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}
