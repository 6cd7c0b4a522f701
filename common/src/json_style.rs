//! Writes JSON in the styles of other programs: Python's `json.dumps`, which the vendor uses, JavaScript, and indented.

mod tokens;

pub(crate) use tokens::string_length;
pub use tokens::{Tokens, inner, whole_number_fields};

/// The style of ElevenLabs' webhooks: Python's `json.dumps`.
pub const WIRE: Style = Style { separators: Separators::Spaced, writing: Writing::Python };

/// The style for people: a line for each value, indented by two blanks.
pub const INDENTED: Style = Style { separators: Separators::Indented(2), writing: Writing::Kept };

/// How a program writes JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// The white space between values.
    pub separators: Separators,
    /// How strings and numbers are written.
    pub writing: Writing,
}

/// The white space between values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separators {
    /// A blank behind each comma and colon: Python's `json.dumps`.
    Spaced,
    /// Nothing: JavaScript's `JSON.stringify` and most others.
    Compact,
    /// A line for each value, indented by this many blanks for each level.
    Indented(usize),
}

/// How strings and numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// Strings and numbers stay as they are.
    Kept,
    /// `\u` escapes for all but ASCII, and `1.0`, `5e-05`: Python's `json.dumps`.
    Python,
    /// No escapes except those that JSON requires, and `1`, `0.00005`: JavaScript.
    JavaScript,
    /// No escapes except those that JSON requires, and `1.0`, `5e-05`: Python with `ensure_ascii=False`.
    PythonUnescaped,
}

/// Returns every style that some program uses, the most common first.
pub fn all() -> impl Iterator<Item = Style> {
    let separators = [Separators::Spaced, Separators::Compact, Separators::Indented(2), Separators::Indented(4)];
    let writings = [Writing::Kept, Writing::Python, Writing::JavaScript, Writing::PythonUnescaped];
    separators
        .into_iter()
        .flat_map(move |separators| writings.into_iter().map(move |writing| Style { separators, writing }))
}

/// Receives the written JSON piece by piece, and may stop the writing.
pub trait Sink {
    /// Receives a piece.
    ///
    /// # Errors
    /// Returns [`Full`] to stop the writing.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full>;
}

/// A [`Sink`] stopped the writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the written JSON is too long")]
pub struct Full;

/// A buffer with a maximum length.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Sink for Bounded {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(Full);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// Maximum length of the result of [`write()`], as a multiple of its input.
const MAX_GROWTH: usize = 8;
/// Bytes that the result may have in any case.
const MIN_LIMIT: usize = 64 << 10;

/// Writes `json` in another style. `json` must be valid JSON. Nesting of any depth takes no stack.
///
/// The length of indented JSON grows with the square of its depth. If the result would be more than eight times as long
/// as `json` and longer than 64 KiB, it is written on one line instead.
#[must_use]
pub fn write(json: &str, style: Style) -> String {
    let limit = json.len().saturating_mul(MAX_GROWTH).max(MIN_LIMIT);
    let one_line = Style { separators: Separators::Spaced, ..style };
    for style in [style, one_line] {
        let mut out = Bounded { bytes: Vec::with_capacity(json.len().saturating_mul(2).min(limit)), limit };
        if write_to(json, style, &mut out).is_ok() {
            // Each piece is UTF-8, so the result is, too.
            return String::from_utf8(out.bytes).unwrap_or_default();
        }
    }
    json.to_owned()
}

/// Writes `json` in another style into a sink, without a limit of its own.
///
/// # Errors
/// Returns [`Full`] if the sink does.
pub fn write_to(json: &str, style: Style, out: &mut impl Sink) -> Result<(), Full> {
    write_with_floats(json, style, &|_| false, out)
}

/// Does the same as [`write_to`], and writes whole numbers as floats (`1.0`) in the fields for which `is_float` returns
/// true. JavaScript drops the `.0`.
///
/// # Errors
/// Returns [`Full`] if the sink does.
pub fn write_with_floats(
    json: &str,
    style: Style,
    is_float: &dyn Fn(&str) -> bool,
    out: &mut impl Sink,
) -> Result<(), Full> {
    let mut tokens = Tokens::of(json);
    let mut depth = 0_usize;
    let mut is_empty = false;
    while let Some(token) = tokens.next() {
        let was_empty = std::mem::take(&mut is_empty);
        match token.as_bytes().first() {
            Some(b'"') => string(out, token, style.writing)?,
            Some(b'{' | b'[') => {
                out.put(token.as_bytes())?;
                is_empty = tokens.rest.starts_with(['}', ']']);
                if !is_empty {
                    depth += 1;
                    new_line(out, depth, style.separators)?;
                }
            }
            Some(b'}' | b']') => {
                if !was_empty {
                    depth = depth.saturating_sub(1);
                    new_line(out, depth, style.separators)?;
                }
                out.put(token.as_bytes())?;
            }
            Some(b',') if style.separators == Separators::Spaced => out.put(b", ")?,
            Some(b',') => {
                out.put(b",")?;
                new_line(out, depth, style.separators)?;
            }
            Some(b':') if style.separators == Separators::Compact => out.put(b":")?,
            Some(b':') => out.put(b": ")?,
            Some(b'-' | b'0'..=b'9') => {
                let as_float = tokens.key.is_some_and(is_float);
                number(out, token, style.writing, as_float)?;
            }
            _ => out.put(token.as_bytes())?,
        }
    }
    Ok(())
}

/// Starts a new line if the style is indented.
fn new_line(out: &mut impl Sink, depth: usize, separators: Separators) -> Result<(), Full> {
    const BLANKS: [u8; 64] = [b' '; 64];
    let Separators::Indented(blanks) = separators else { return Ok(()) };
    out.put(b"\n")?;
    let mut left = depth * blanks;
    while left > 0 {
        let piece = left.min(BLANKS.len());
        out.put(&BLANKS[..piece])?;
        left -= piece;
    }
    Ok(())
}

fn string(out: &mut impl Sink, token: &str, writing: Writing) -> Result<(), Full> {
    if writing == Writing::Kept {
        return out.put(token.as_bytes());
    }
    let is_ascii_only = writing == Writing::Python;
    // Bytes that every style writes unchanged.
    let is_plain =
        |byte: &u8| matches!(byte, b' '..=b'~' if !matches!(byte, b'"' | b'\\')) || (*byte >= 0x7f && !is_ascii_only);
    out.put(b"\"")?;
    let mut rest = inner(token);
    while !rest.is_empty() {
        let run = rest.bytes().position(|byte| !is_plain(&byte)).unwrap_or(rest.len());
        if run > 0 {
            let (plain, after) = rest.split_at_checked(run).unwrap_or((rest, ""));
            out.put(plain.as_bytes())?;
            rest = after;
            continue;
        }
        let Some((unescaped, length)) = unescape(rest) else { break };
        rest = rest.get(length..).unwrap_or_default();
        character(out, &unescaped, is_ascii_only)?;
    }
    out.put(b"\"")
}

/// Writes a character that may need an escape.
fn character(out: &mut impl Sink, unescaped: &Unescaped, is_ascii_only: bool) -> Result<(), Full> {
    let c = match unescaped {
        Unescaped::LoneSurrogate(unit) => return escape(out, *unit),
        Unescaped::Char(c) => *c,
    };
    match c {
        '"' => out.put(b"\\\""),
        '\\' => out.put(b"\\\\"),
        '\n' => out.put(b"\\n"),
        '\r' => out.put(b"\\r"),
        '\t' => out.put(b"\\t"),
        '\u{8}' => out.put(b"\\b"),
        '\u{c}' => out.put(b"\\f"),
        c if c < ' ' || (is_ascii_only && c > '~') => {
            c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| escape(out, *unit))
        }
        c => out.put(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Writes `\u` and four hex digits.
fn escape(out: &mut impl Sink, unit: u16) -> Result<(), Full> {
    let digit = |shift: u32| b"0123456789abcdef"[usize::from(unit >> shift & 0xf)];
    out.put(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)])
}

enum Unescaped {
    Char(char),
    /// A lone surrogate, which is not a character.
    LoneSurrogate(u16),
}

/// Returns the character at the beginning of a string's content, and the length of its text in bytes.
fn unescape(text: &str) -> Option<(Unescaped, usize)> {
    let first = text.chars().next()?;
    if first != '\\' {
        return Some((Unescaped::Char(first), first.len_utf8()));
    }
    let unit = |at: usize| u16::from_str_radix(text.get(at..at + 4)?, 16).ok();
    Some(match text.as_bytes().get(1)? {
        b'u' => {
            let high = unit(2)?;
            let low = if text.get(6..8) == Some("\\u") { unit(8) } else { None };
            let units = [high, low.unwrap_or(0)];
            match char::decode_utf16(units[..].iter().copied()).next()? {
                Ok(c) => (Unescaped::Char(c), if c.len_utf16() == 2 { 12 } else { 6 }),
                Err(_) => (Unescaped::LoneSurrogate(high), 6),
            }
        }
        b'n' => (Unescaped::Char('\n'), 2),
        b'r' => (Unescaped::Char('\r'), 2),
        b't' => (Unescaped::Char('\t'), 2),
        b'b' => (Unescaped::Char('\u{8}'), 2),
        b'f' => (Unescaped::Char('\u{c}'), 2),
        other => (Unescaped::Char(char::from(*other)), 2),
    })
}

/// Writes a number as Python's `repr` or JavaScript does. Both write a whole number unchanged, unless it is a float.
fn number(out: &mut impl Sink, token: &str, writing: Writing, as_float: bool) -> Result<(), Full> {
    let has_fraction = as_float || token.contains(['.', 'e', 'E']);
    let value = if has_fraction && writing != Writing::Kept { token.parse::<f64>().ok() } else { None };
    let Some(value) = value.filter(|value| value.is_finite()) else { return out.put(token.as_bytes()) };
    let is_python = writing != Writing::JavaScript;
    // Like both languages, Rust prints the shortest digits that are parsed back as the same number.
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let is_decimal = if is_python { (-4..16).contains(&exponent) } else { (-6..21).contains(&exponent) };
    let text = if is_decimal {
        let decimal = format!("{value}");
        if is_python && !decimal.contains('.') { decimal + ".0" } else { decimal }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        let width = if is_python { 2 } else { 1 };
        format!("{digits}e{sign}{:0width$}", exponent.abs())
    };
    out.put(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AS_SENT: &str = r#"{ "a":"ü \u00fc\/\ud83d\ude00\ud83d","b" : [1.0,5.7e-05, 0.00001, 1e16,-2, [ ],{}],
        "c":null }"#;

    fn check(separators: Separators, writing: Writing, expected: &str) {
        assert_eq!(write(AS_SENT, Style { separators, writing }), expected);
    }

    #[test]
    fn json_is_written_like_python_and_javascript() {
        check(
            Separators::Spaced,
            Writing::Python,
            r#"{"a": "\u00fc \u00fc/\ud83d\ude00\ud83d", "b": [1.0, 5.7e-05, 1e-05, 1e+16, -2, [], {}], "c": null}"#,
        );
        check(
            Separators::Compact,
            Writing::JavaScript,
            r#"{"a":"ü ü/😀\ud83d","b":[1,0.000057,0.00001,10000000000000000,-2,[],{}],"c":null}"#,
        );
        check(
            Separators::Compact,
            Writing::Kept,
            r#"{"a":"ü \u00fc\/\ud83d\ude00\ud83d","b":[1.0,5.7e-05,0.00001,1e16,-2,[],{}],"c":null}"#,
        );
    }

    #[test]
    fn json_is_indented_like_python_and_javascript() {
        assert_eq!(
            write(r#"{"a":[1,{}],"b":[]}"#, INDENTED),
            "{
  \"a\": [
    1,
    {}
  ],
  \"b\": []
}"
        );
    }

    #[test]
    fn deeply_nested_json_is_not_indented() {
        let indented = Style { separators: Separators::Indented(4), writing: Writing::Kept };
        for deep in [
            format!("{}{}", "[".repeat(20_000), "]".repeat(20_000)),
            format!("{}0{}", r#"{"a":"#.repeat(20_000), "}".repeat(20_000)),
            format!("{}0{}{}", "[".repeat(1_000), ",0".repeat(120_000), "]".repeat(1_000)),
        ] {
            let written = write(&deep, indented);
            assert!(written.len() <= deep.len() * 8, "{} bytes of {}", written.len(), deep.len());
            assert!(!written.contains('\n'));
            assert_eq!(written.replace(' ', ""), deep);
        }
        assert!(write("[[1]]", indented).contains('\n'));
    }

    #[test]
    fn whole_numbers_of_float_fields_are_written_as_floats() {
        let json = r#"{"price":0,"tokens":7,"usage":{"price":-2,"big":12345678901234567890},"list":[1,2.5]}"#;
        assert_eq!(whole_number_fields(json, 9), ["price", "tokens", "big", "list"]);
        assert_eq!(whole_number_fields(json, 2), ["price", "tokens"]);
        let mut out = Bounded { bytes: Vec::new(), limit: 1000 };
        write_with_floats(json, WIRE, &|name| ["price", "big", "list"].contains(&name), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out.bytes).unwrap(),
            r#"{"price": 0.0, "tokens": 7, "usage": {"price": -2.0, "big": 1.2345678901234567e+19}, "list": [1.0, 2.5]}"#
        );
    }
}
