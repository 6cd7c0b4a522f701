//! A type for text that is safe to print on a terminal.
//!
//! Everything that goes to stdout is a [`Safe`], and the only ways to make one are the functions of this module:
//! they sanitise their argument, or take text that is part of this program. A command therefore cannot print the text
//! of a server or a file without sanitising it.

use std::borrow::Cow;

use callscope_common::text;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// What a piece of text means, which is shown as a colour if colours are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tint {
    Plain,
    Header,
    Good,
    Warning,
    Bad,
}

impl Tint {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Header => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Warning => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }
}

/// Text without control characters, except line feeds, tabs and the colour codes of this program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Safe(Cow<'static, str>);

impl Safe {
    /// Text that is part of this program.
    pub(crate) fn literal(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// `text` on one line, sanitised, without a line feed at its end.
    pub(crate) fn line(text: &str) -> Self {
        Self::of(text::one_line(text))
    }

    /// `text` in its own lines, sanitised.
    pub(crate) fn lines(text: &str) -> Self {
        Self::of(text::lines(text))
    }

    /// Sanitised cells, separated by tabs and ended by a line feed.
    pub(crate) fn tabbed<S: AsRef<str>>(cells: &[S]) -> Self {
        let cells: Vec<_> = cells.iter().map(|cell| text::one_line(cell.as_ref())).collect();
        Self::of(format!("{}\n", cells.join("\t")))
    }

    /// `text` sanitised, with its line feeds and its tabs, which a shell script needs.
    pub(crate) fn page(text: &str) -> Self {
        let pieces: Vec<_> = text.split('\t').map(text::lines).collect();
        Self::of(pieces.join("\t"))
    }

    /// A document made by [`callscope_common::export`], sanitised except for its word joiners. The export puts them
    /// into texts to disarm markup.
    pub(crate) fn exported(document: &str) -> Self {
        const WORD_JOINER: &str = "\u{2060}";
        let pieces: Vec<_> = document.split(WORD_JOINER).map(text::lines).collect();
        Self::of(pieces.join(WORD_JOINER))
    }

    /// `json` with every character that could control a terminal as its `\u` escape, which is the same JSON. Line
    /// feeds stay, and other white space between values becomes blanks.
    pub(crate) fn json(json: &str) -> Self {
        Self::of(escaped(json))
    }

    /// `json` escaped as by [`Safe::json`], on one line that ends with a line feed.
    pub(crate) fn json_line(json: &str) -> Self {
        // Valid JSON has line feeds only between values, where a blank means the same.
        let line = escaped(json).replace('\n', " ");
        Self::of(line + "\n")
    }

    /// A help page as clap renders it from the definitions in this program, coloured or not.
    pub(crate) fn help(page: &clap::builder::StyledStr, color: bool) -> Self {
        Self::of(if color { page.ansi().to_string() } else { page.to_string() })
    }

    /// Adds the colour of `tint`.
    #[must_use]
    pub(crate) fn tinted(self, tint: Tint) -> Self {
        match tint.code() {
            "" => self,
            code => Self::of(format!("{code}{}\x1b[0m", self.0)),
        }
    }

    /// Cuts the text to `width` columns, the last of which is then `…`. The text must not be coloured yet.
    #[must_use]
    pub(crate) fn cut(self, width: Option<usize>) -> Self {
        match cut(&self.0, width) {
            Cow::Borrowed(_) => self,
            Cow::Owned(short) => Self::of(short),
        }
    }

    /// Appends `more`.
    #[must_use]
    pub(crate) fn append(self, more: &Self) -> Self {
        Self::of(self.0.into_owned() + &more.0)
    }

    /// Appends a line feed.
    #[must_use]
    pub(crate) fn with_newline(self) -> Self {
        self.append(&Self::literal("\n"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn of<'t>(text: impl Into<Cow<'t, str>>) -> Self {
        Self(Cow::Owned(text.into().into_owned()))
    }
}

impl FromIterator<Self> for Safe {
    fn from_iter<I: IntoIterator<Item = Self>>(pieces: I) -> Self {
        let mut whole = String::new();
        pieces.into_iter().for_each(|piece| whole.push_str(&piece.0));
        Self::of(whole)
    }
}

/// Cuts `text` to `width` columns, the last of which is then `…`.
pub(crate) fn cut(text: &str, width: Option<usize>) -> Cow<'_, str> {
    let Some(width) = width.filter(|width| text.width() > *width) else { return Cow::Borrowed(text) };
    let mut short = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width.saturating_sub(1) {
            break;
        }
        short.push(c);
    }
    if width > 0 {
        short.push('…');
    }
    Cow::Owned(short)
}

/// Replaces every character that could control a terminal by its `\u` escape, which is the same JSON.
pub(crate) fn escaped(json: &str) -> Cow<'_, str> {
    if json.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~')) {
        return Cow::Borrowed(json);
    }
    let mut safe = String::with_capacity(json.len() + json.len() / 8);
    let mut buffer = [0; 4];
    for c in json.chars() {
        let encoded: &str = c.encode_utf8(&mut buffer);
        match c {
            '\n' | ' '..='~' => safe.push(c),
            // Valid JSON has a raw tab or carriage return only between values.
            '\t' | '\r' => safe.push(' '),
            _ if text::one_line(encoded) == encoded => safe.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    safe.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_same_json_without_anything_that_a_terminal_acts_on() {
        let json = "{\r\n\t\"a\":\"x\u{202e}y\u{9b}2J é 東 \u{7f}\u{e0041}\u{2028}\u{200d}\"}";
        let safe = Safe::json(json);
        let expected = "{ \n \"a\":\"x\\u202ey\\u009b2J é 東 \\u007f\\udb40\\udc41\\u2028\\u200d\"}";
        assert_eq!(safe.as_str(), expected);
        assert_eq!(Safe::json_line(json).as_str(), expected.replace('\n', " ") + "\n");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
        assert_eq!(read(json), read(safe.as_str()));
        assert!(read(json).is_object());
    }

    #[test]
    fn every_constructor_sanitises() {
        let hostile = "\x1b]0;owned\x07a\u{9b}2Jb\rc\u{202e}d";
        for safe in [
            Safe::line(hostile),
            Safe::lines(hostile),
            Safe::tabbed(&[hostile]),
            Safe::page(hostile),
            Safe::json(hostile),
        ] {
            let is_raw = |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || c == '\u{202e}';
            assert!(!safe.as_str().contains(is_raw), "{safe:?}");
        }
        assert_eq!(Safe::line("a\tb\n").as_str(), "a b ");
        assert_eq!(Safe::page("a\tb\n").as_str(), "a\tb\n");
    }

    #[test]
    fn colours_and_cuts_keep_text_safe() {
        assert_eq!(Safe::line("x").tinted(Tint::Bad).with_newline().as_str(), "\x1b[31mx\x1b[0m\n");
        assert_eq!(Safe::line("x").tinted(Tint::Plain).as_str(), "x");
        assert_eq!(Safe::line("日本語").cut(Some(4)).as_str(), "日…");
        assert_eq!(Safe::line("日本語").cut(Some(6)).as_str(), "日本語");
    }
}
