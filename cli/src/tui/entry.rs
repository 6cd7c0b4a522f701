//! What the transcript is made of, wrapped to the screen's width.

use callscope_common::Speaker;
use textwrap::{WordSeparator, WrapAlgorithm};

use super::glyph::drawable;

/// A turn, a note or a result, with its rows at the present width.
#[derive(Debug)]
pub struct Entry {
    /// Which call it belongs to.
    pub call: usize,
    /// What it is.
    pub kind: Kind,
    /// Time since the call's start; empty for notes.
    pub time: String,
    /// The text, safe to draw.
    pub text: String,
    /// The text's rows.
    pub rows: Vec<String>,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something said.
    Turn(Speaker),
    /// Something being said.
    Partial(Speaker),
    /// Something that happened to the connection.
    Note,
    /// How the call ended.
    Result,
}

/// Where things stand at a width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    /// The screen's width.
    pub width: usize,
    /// How many columns name the call; 0 for an only call.
    pub label: usize,
    /// Whether a caller's words are set in.
    indent: usize,
}

impl Columns {
    /// For a screen `width` wide with one or `several` calls.
    pub fn new(width: u16, several: bool) -> Self {
        let width = usize::from(width);
        let label = if several { (width / 5).clamp(6, 16) } else { 0 };
        Self { width, label, indent: if width < 60 { 1 } else { 4 } }
    }

    /// Where the text of `entry` begins.
    pub fn text(&self, entry: &Entry) -> usize {
        let gutter = match entry.kind {
            Kind::Note | Kind::Result => return 3.min(self.width / 4),
            Kind::Turn(_) | Kind::Partial(_) => entry.time.len().max(5) + 1 + 5 + 1,
        };
        let label = if self.label > 0 { self.label + 1 } else { 0 };
        label + gutter + self.indent(entry.kind)
    }

    fn indent(&self, kind: Kind) -> usize {
        match kind {
            Kind::Turn(Speaker::User) | Kind::Partial(Speaker::User) => self.indent,
            Kind::Turn(Speaker::Tool) | Kind::Partial(Speaker::Tool) => 2 * self.indent,
            _ => 0,
        }
    }
}

impl Entry {
    /// Makes `text` safe and wraps it.
    pub fn new(call: usize, kind: Kind, time: String, text: &str, columns: &Columns) -> Self {
        let mut entry = Self { call, kind, time, text: drawable(text).into_owned(), rows: Vec::new() };
        entry.wrap(columns);
        entry
    }

    /// Wraps the text anew.
    pub fn wrap(&mut self, columns: &Columns) {
        let width = columns.width.saturating_sub(columns.text(self)).max(2);
        let options = textwrap::Options::new(width)
            .word_separator(WordSeparator::UnicodeBreakProperties)
            .wrap_algorithm(WrapAlgorithm::FirstFit)
            .break_words(true);
        self.rows = textwrap::wrap(&self.text, options).into_iter().map(std::borrow::Cow::into_owned).collect();
        if self.rows.is_empty() {
            self.rows.push(String::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthStr as _;

    #[test]
    fn rows_fit_whatever_the_text_and_the_width() {
        let texts =
            ["", "short", &"word ".repeat(300), &"x".repeat(70_000), &"東京".repeat(200), &"👩\u{200d}🚒".repeat(90)];
        for width in [20, 40, 41, 80, 200] {
            let columns = Columns::new(width, false);
            for text in texts {
                let entry = Entry::new(0, Kind::Turn(Speaker::Tool), "1:00:00".into(), text, &columns);
                let fits = columns.width - columns.text(&entry);
                assert!(entry.rows.iter().all(|row| row.width() <= fits), "{width}: {:.20}", text);
                assert!(!entry.rows.is_empty());
            }
        }
    }

    #[test]
    fn speakers_have_places_of_their_own() {
        let columns = Columns::new(80, false);
        let at = |speaker| columns.text(&Entry::new(0, Kind::Turn(speaker), "00:01".into(), "hi", &columns));
        assert!(at(Speaker::Agent) < at(Speaker::User) && at(Speaker::User) < at(Speaker::Tool));
    }
}
