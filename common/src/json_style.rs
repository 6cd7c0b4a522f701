//! The same JSON as other programs write it: Python's `json.dumps`, which the vendor uses, JavaScript's, and indented.

/// As ElevenLabs writes its webhooks: `json.dumps` of Python.
pub const WIRE: Style = Style { separators: Separators::Spaced, writing: Writing::Python };

/// How a program writes JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// What stands between the values.
    pub separators: Separators,
    /// How texts and numbers are spelled.
    pub writing: Writing,
}

/// What stands between values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separators {
    /// A blank behind each comma and colon: Python's `json.dumps`.
    Spaced,
    /// Nothing: JavaScript's `JSON.stringify` and most others.
    Compact,
    /// A line for each value, indented by so many blanks.
    Indented(usize),
}

/// How texts and numbers are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// As they are.
    Kept,
    /// `\u` escapes for all but ASCII, and `1.0`, `5e-05`: Python's `json.dumps`.
    Python,
    /// Texts as they are said, and `1`, `0.00005`: JavaScript.
    JavaScript,
    /// Texts as they are said, and `1.0`, `5e-05`: Python with `ensure_ascii=False`.
    PythonUnescaped,
}

/// Every style worth trying, the likeliest first.
pub fn all() -> impl Iterator<Item = Style> {
    let separators = [Separators::Spaced, Separators::Compact, Separators::Indented(2), Separators::Indented(4)];
    let writings = [Writing::Kept, Writing::Python, Writing::JavaScript, Writing::PythonUnescaped];
    separators
        .into_iter()
        .flat_map(move |separators| writings.into_iter().map(move |writing| Style { separators, writing }))
}

/// `json`, known to be JSON, in another style. Needs no stack, however deep it is nested.
#[must_use]
pub fn write(json: &str, style: Style) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut rest = json.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest),
            '{' | '}' | '[' | ']' | ',' | ':' => 1,
            _ => rest.find([',', ':', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(rest.len()),
        };
        let Some((token, after)) = rest.split_at_checked(length.max(1)) else { break };
        rest = after.trim_start_matches([' ', '\t', '\n', '\r']);
        match first {
            '"' => text(&mut out, token.get(1..token.len() - 1).unwrap_or_default(), style.writing),
            '{' | '[' => {
                out.push(first);
                if rest.starts_with(['}', ']']) {
                    continue;
                }
                depth += 1;
                line(&mut out, depth, style.separators);
            }
            '}' | ']' => {
                if !out.ends_with(['{', '[']) {
                    depth = depth.saturating_sub(1);
                    line(&mut out, depth, style.separators);
                }
                out.push(first);
            }
            ',' => {
                out.push(',');
                match style.separators {
                    Separators::Spaced => out.push(' '),
                    separators => line(&mut out, depth, separators),
                }
            }
            ':' => out.push_str(if style.separators == Separators::Compact { ":" } else { ": " }),
            '-' | '0'..='9' => number(&mut out, token, style.writing),
            _ => out.push_str(token),
        }
    }
    out
}

fn line(out: &mut String, depth: usize, separators: Separators) {
    if let Separators::Indented(by) = separators {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', depth * by));
    }
}

/// Length in bytes of the JSON string at the beginning of `text`, with its quotes.
#[must_use]
pub fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn text(out: &mut String, inner: &str, writing: Writing) {
    use std::fmt::Write as _;
    out.push('"');
    if writing == Writing::Kept {
        out.push_str(inner);
    } else {
        let ascii = writing == Writing::Python;
        let mut rest = inner;
        while let Some((said, length)) = unescape(rest) {
            rest = rest.get(length..).unwrap_or_default();
            let _ = match said {
                Said::Lone(unit) => write!(out, "\\u{unit:04x}"),
                Said::Char(c) => match c {
                    '"' => write!(out, "\\\""),
                    '\\' => write!(out, "\\\\"),
                    '\n' => write!(out, "\\n"),
                    '\r' => write!(out, "\\r"),
                    '\t' => write!(out, "\\t"),
                    '\u{8}' => write!(out, "\\b"),
                    '\u{c}' => write!(out, "\\f"),
                    ' '..='~' => write!(out, "{c}"),
                    c if c < ' ' || ascii => {
                        c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))
                    }
                    c => write!(out, "{c}"),
                },
            };
        }
    }
    out.push('"');
}

enum Said {
    Char(char),
    /// Half of a pair, which names no character.
    Lone(u16),
}

/// The character at the beginning of a string's content, and how long its spelling is.
fn unescape(text: &str) -> Option<(Said, usize)> {
    let first = text.chars().next()?;
    if first != '\\' {
        return Some((Said::Char(first), first.len_utf8()));
    }
    let unit = |at: usize| u16::from_str_radix(text.get(at..at + 4)?, 16).ok();
    Some(match text.as_bytes().get(1)? {
        b'u' => {
            let high = unit(2)?;
            let low = if text.get(6..8) == Some("\\u") { unit(8) } else { None };
            let units = [high, low.unwrap_or(0)];
            match char::decode_utf16(units[..].iter().copied()).next()? {
                Ok(c) => (Said::Char(c), if c.len_utf16() == 2 { 12 } else { 6 }),
                Err(_) => (Said::Lone(high), 6),
            }
        }
        b'n' => (Said::Char('\n'), 2),
        b'r' => (Said::Char('\r'), 2),
        b't' => (Said::Char('\t'), 2),
        b'b' => (Said::Char('\u{8}'), 2),
        b'f' => (Said::Char('\u{c}'), 2),
        other => (Said::Char(char::from(*other)), 2),
    })
}

/// Spells a number as Python's `repr` or JavaScript does; whole numbers stay as they are in both.
fn number(out: &mut String, token: &str, writing: Writing) {
    let fraction = token.contains(['.', 'e', 'E']);
    let value = token.parse::<f64>().ok().filter(|value| value.is_finite());
    let (Some(value), true, false) = (value, fraction, writing == Writing::Kept) else {
        out.push_str(token);
        return;
    };
    let python = writing != Writing::JavaScript;
    // The shortest digits that read back as the same number, which both languages print too.
    let spelled = format!("{value:e}");
    let (digits, exponent) = spelled.split_once('e').unwrap_or((&spelled, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let plain = if python { (-4..16).contains(&exponent) } else { (-6..21).contains(&exponent) };
    if plain {
        let spelled = format!("{value}");
        out.push_str(&spelled);
        if python && !spelled.contains('.') {
            out.push_str(".0");
        }
        return;
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    let width = if python { 2 } else { 1 };
    out.push_str(&format!("{digits}e{sign}{:0width$}", exponent.abs()));
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
    fn as_python_and_javascript_write_it() {
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
    fn indented_like_both() {
        let style = Style { separators: Separators::Indented(2), writing: Writing::Kept };
        assert_eq!(write(r#"{"a":[1,{}],"b":[]}"#, style), "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}");
    }
}
