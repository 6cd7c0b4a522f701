//! Makes untrusted text safe to print in a terminal, a log line or a title.

use std::borrow::Cow;

/// Stands for a control character or an escape sequence that was removed.
pub const REPLACEMENT: char = '\u{FFFD}';

/// Returns `text` on one line, without anything that a terminal would act on.
///
/// - A whole escape sequence (ESC or C1: CSI, OSC, DCS, …) becomes one [`REPLACEMENT`]; so does any other control
///   character.
/// - Line breaks and tabs become a blank.
/// - Bidi controls, zero-width characters, tags and other invisible format characters are dropped. The joiners of emoji
///   and of Indic and Arabic writing (U+200C, U+200D) are kept behind a visible character.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    sanitize(text, false)
}

/// Does the same as [`one_line`], but keeps line feeds. CR LF and CR become line feeds.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    sanitize(text, true)
}

fn sanitize(text: &str, keep_newlines: bool) -> Cow<'_, str> {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' | '\r' | '\u{2028}' | '\u{2029}' | '\u{85}' => safe.push(if keep_newlines { '\n' } else { ' ' }),
            '\t' => safe.push(' '),
            '\u{1b}' => {
                skip_escape(&mut chars);
                safe.push(REPLACEMENT);
            }
            '\u{9b}' => {
                skip_csi(&mut chars);
                safe.push(REPLACEMENT);
            }
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => {
                skip_string(&mut chars);
                safe.push(REPLACEMENT);
            }
            c if c.is_control() => safe.push(REPLACEMENT),
            '\u{200c}' | '\u{200d}'
                if !safe.chars().next_back().is_some_and(|before| before > ' ' && !is_joiner(before)) => {}
            c if is_invisible(c) => {}
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Skips the rest of an escape sequence behind its ESC, as ECMA-48 and xterm define it.
fn skip_escape(chars: &mut Chars<'_>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            skip_csi(chars);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            chars.next();
            skip_string(chars);
        }
        Some(' '..='/') => {
            while chars.next_if(|c| matches!(c, ' '..='/')).is_some() {}
            chars.next_if(|c| matches!(c, '0'..='~'));
        }
        Some('0'..='~') => {
            chars.next();
        }
        _ => {}
    }
}

fn skip_csi(chars: &mut Chars<'_>) {
    while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    chars.next_if(|c| matches!(c, '@'..='~'));
}

/// Skips a control string up to its end (BEL, ST). An unfinished one ends with its line, so that it cannot hide what
/// follows.
fn skip_string(chars: &mut Chars<'_>) {
    while let Some(c) = chars.next_if(|c| !matches!(c, '\n' | '\r')) {
        match c {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                chars.next_if(|c| *c == '\\');
                return;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_borrowed() {
        assert!(matches!(one_line("Road assistance, hello."), Cow::Borrowed(_)));
    }

    #[test]
    fn an_escape_sequence_is_replaced_as_a_whole() {
        for (raw, safe) in [
            ("a\x1b[31mred\x1b[0m", "a\u{fffd}red\u{fffd}"),
            ("\x1b]0;title\x07b", "\u{fffd}b"),
            ("\x1b]52;c;aGk=\x1b\\b", "\u{fffd}b"),
            ("\x1bPq#0\x1b\\b", "\u{fffd}b"),
            ("\u{9b}2Jb", "\u{fffd}b"),
            ("\x1b(0b", "\u{fffd}b"),
            ("\x1bcb", "\u{fffd}b"),
            ("\x1b", "\u{fffd}"),
            ("\x07\x08\x7f", "\u{fffd}\u{fffd}\u{fffd}"),
            ("\x1b]0;never ends\nnext", "\u{fffd} next"),
        ] {
            assert_eq!(one_line(raw), safe, "{raw:?}");
        }
    }

    #[test]
    fn invisible_characters_are_dropped_and_joiners_of_writing_are_kept() {
        assert_eq!(one_line("a\u{202e}b\u{2066}c\u{200b}\u{feff}d\u{e0041}"), "abcd");
        assert_eq!(one_line("👩\u{200d}🚒 नमस्\u{200d}ते می\u{200c}خواهم"), "👩\u{200d}🚒 नमस्\u{200d}ते می\u{200c}خواهم");
        assert_eq!(one_line("\u{200d}\u{200d}a\u{200d}\u{200d}"), "a\u{200d}");
        assert_eq!(one_line("a\r\nb\tc"), "a b c");
        assert_eq!(lines("a\r\nb\rc"), "a\nb\nc");
    }
}
