//! The entries of a transcript and their layout at a width.

use std::ops::Range;

use callscope_common::transcript::clock;
use callscope_common::{Seq, Speaker, Timestamp};
use ratatui::buffer::CellWidth as _;
use textwrap::{WordSeparator, WrapAlgorithm};
use unicode_segmentation::UnicodeSegmentation as _;

use crate::render::Tint;
use crate::term::backend;
use crate::term::drawable::drawable;

/// A turn, a note or a part of the result.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) kind: EntryKind,
    /// When it was said.
    pub(crate) at: Option<Timestamp>,
    /// The text, which is safe to draw.
    pub(crate) text: Box<str>,
    /// The message of the server that the entry was made from.
    pub(crate) raw: Option<Box<str>>,
    /// Whether the words of a tool are unfolded.
    pub(crate) open: bool,
    /// The seq of its event; 0 for a note of this program.
    pub(crate) seq: Seq,
    /// The seq of the newest event before it.
    pub(crate) behind: Seq,
    /// Whether it matches the filter. Without a filter it always does.
    pub(crate) passes: bool,
    /// Whether its text was evicted and has to be read from the server again.
    evicted: bool,
    /// Whether terminals disagree on the width of a character in the text.
    has_ambiguous_width: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A turn that is complete.
    Turn(Speaker),
    /// A turn that is not complete yet.
    Partial(Speaker),
    /// Something that happened to the connection or the call.
    Note(Tint),
    /// How the call ended.
    Outcome(Tint),
    /// A part of the result of the call.
    Result(Tint),
}

impl EntryKind {
    /// Returns the speaker of a turn.
    pub(crate) fn speaker(self) -> Option<Speaker> {
        match self {
            Self::Turn(speaker) | Self::Partial(speaker) => Some(speaker),
            _ => None,
        }
    }
}

impl Entry {
    /// Makes `text` safe to draw.
    pub(crate) fn new(kind: EntryKind, at: Option<Timestamp>, text: &str, raw: Option<&str>) -> Self {
        let text = drawable(text);
        let has_ambiguous_width = !text.is_ascii() && !text.chars().all(backend::has_certain_width);
        let (text, raw) = (text.into(), raw.map(Into::into));
        Self { kind, at, text, raw, open: false, seq: 0, behind: 0, passes: true, evicted: false, has_ambiguous_width }
    }

    /// Returns the entry as one of the event with this seq.
    pub(crate) fn of(self, seq: Seq) -> Self {
        Self { seq, ..self }
    }

    /// Returns the bytes that its text takes.
    pub(crate) fn size(&self) -> usize {
        self.text.len() + self.raw.as_ref().map_or(0, |raw| raw.len())
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.evicted
    }

    pub(crate) fn evict(&mut self) {
        (self.text, self.raw, self.evicted) = (Box::default(), None, true);
    }
}

/// Which times are shown before turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum TimeDisplay {
    /// The time since the call began.
    #[default]
    Since,
    /// The time of day in UTC.
    Day,
    Off,
}

impl TimeDisplay {
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Since => Self::Day,
            Self::Day => Self::Off,
            Self::Off => Self::Since,
        }
    }
}

/// How entries are laid out on a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The width of the screen.
    pub(crate) width: usize,
    pub(crate) times: TimeDisplay,
    /// Whether long turns are wrapped or cut.
    pub(crate) wrap: bool,
    /// When the call began.
    pub(crate) start: Option<Timestamp>,
}

/// The bytes of an entry's text that stand on one row.
pub(crate) type TextSpan = Range<u32>;

/// Width of the longest name of a speaker, in cells.
const SPEAKER_WIDTH: usize = 5;
/// The column where notes and results begin.
const NOTE_COLUMN: usize = 3;

impl Layout {
    /// Returns the time before `entry`; empty where none is shown.
    pub(crate) fn time(&self, entry: &Entry) -> String {
        let (Some(at), Some(_)) = (entry.at, entry.kind.speaker()) else { return String::new() };
        match self.times {
            TimeDisplay::Off => String::new(),
            TimeDisplay::Since => format!("{:>5}", clock(self.start.map_or(0.0, |start| at.secs_since(start)))),
            TimeDisplay::Day => at.to_string().get(11..19).unwrap_or_default().to_owned(),
        }
    }

    /// Returns the column where the name of the speaker begins.
    pub(crate) fn speaker(&self, entry: &Entry) -> usize {
        let time = self.time(entry).len();
        let indent = if self.width < 60 { 1 } else { 4 };
        let indent = match entry.kind.speaker() {
            Some(Speaker::User) => indent,
            Some(Speaker::Tool) => 2 * indent,
            _ => 0,
        };
        indent + if time > 0 { time + 1 } else { 0 }
    }

    /// Returns the column where the text begins.
    pub(crate) fn text(&self, entry: &Entry) -> usize {
        if entry.kind.speaker().is_some() { self.speaker(entry) + SPEAKER_WIDTH + 1 } else { NOTE_COLUMN }
    }

    /// Returns how wide the text may be. Ambiguous text leaves the last column free, where terminals misplace marks.
    pub(crate) fn room(&self, entry: &Entry) -> usize {
        self.width.saturating_sub(self.text(entry) + usize::from(entry.has_ambiguous_width)).max(2)
    }

    /// Returns the rows of `entry`, which are at least one.
    pub(crate) fn lay_out(&self, entry: &Entry) -> Box<[TextSpan]> {
        let text = &*entry.text;
        let folded = entry.kind == EntryKind::Turn(Speaker::Tool) && !entry.open;
        if folded || !self.wrap {
            return Box::new([span(0, text.len())]);
        }
        if entry.has_ambiguous_width {
            return wrap_clusters(text, self.room(entry));
        }
        let options = textwrap::Options::new(self.room(entry))
            .word_separator(WordSeparator::UnicodeBreakProperties)
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .wrap_algorithm(WrapAlgorithm::FirstFit)
            .break_words(true);
        let mut end = 0;
        let mut spans = Vec::new();
        for row in textwrap::wrap(text, options) {
            // The rows are parts of the text in order, with nothing but blanks between them.
            let begin = text[end..].find(&*row).map_or(end, |found| end + found);
            end = begin + row.len();
            spans.push(span(begin, end));
        }
        if spans.is_empty() { Box::new([span(0, 0)]) } else { spans.into() }
    }
}

/// Wraps at blanks and wide characters, and splits a word that is wider than `room` between two graphemes.
fn wrap_clusters(text: &str, room: usize) -> Box<[TextSpan]> {
    let mut spans = Vec::new();
    // The row that is being filled: where it begins, how wide it is, and where its last word ends.
    let (mut begin, mut width, mut end) = (0, 0, 0);
    for (at, word) in words(text) {
        let wide: usize = word.graphemes(true).map(|cluster| usize::from(cluster.cell_width())).sum();
        let blanks = at - end;
        if end > begin && width + blanks + wide > room {
            spans.push(span(begin, end));
            (begin, width) = (at, 0);
        } else if end == begin {
            begin = at;
        } else {
            width += blanks;
        }
        for (offset, cluster) in word.grapheme_indices(true) {
            let wide = usize::from(cluster.cell_width());
            if width + wide > room && width > 0 {
                spans.push(span(begin, at + offset));
                (begin, width) = (at + offset, 0);
            }
            width += wide;
        }
        end = at + word.len();
    }
    if end > begin || spans.is_empty() {
        spans.push(span(begin, end));
    }
    spans.into()
}

/// Returns the units that a row may break between, with their offsets: each wide character, and each run of other
/// characters without a blank.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut clusters = text.grapheme_indices(true).peekable();
    std::iter::from_fn(move || {
        let (begin, first) = clusters.find(|(_, cluster)| *cluster != " ")?;
        let mut end = begin + first.len();
        let goes_on = |cluster: &str| cluster != " " && cluster.cell_width() < 2;
        if first.cell_width() < 2 {
            while let Some((at, cluster)) = clusters.next_if(|(_, cluster)| goes_on(cluster)) {
                end = at + cluster.len();
            }
        }
        Some((begin, &text[begin..end]))
    })
}

fn span(begin: usize, end: usize) -> TextSpan {
    let short = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
    short(begin)..short(end)
}

pub(crate) fn row<'e>(entry: &'e Entry, span: &TextSpan) -> &'e str {
    entry.text.get(span.start as usize..span.end as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthStr as _;

    fn layout(width: usize) -> Layout {
        Layout { width, times: TimeDisplay::Since, wrap: true, start: Timestamp::from_unix_secs(0) }
    }

    fn tool(text: &str) -> Entry {
        let mut entry = Entry::new(EntryKind::Turn(Speaker::Tool), Timestamp::from_unix_secs(3600), text, None);
        entry.open = true;
        entry
    }

    #[test]
    fn rows_fit_whatever_the_text_and_the_width() {
        let texts = [
            "",
            "short",
            &"word ".repeat(300),
            &"x".repeat(70_000),
            &"東京".repeat(200),
            &"👩\u{200d}🚒".repeat(90),
            &"नमस्ते, आपकी गाड़ी कहाँ है? ".repeat(20),
            &"น้ำท่วมทำไม".repeat(40),
            "  ได้  ครับ  ",
        ];
        for width in [20, 40, 41, 80, 200] {
            for text in texts {
                let entry = tool(text);
                let rows = layout(width).lay_out(&entry);
                let room = layout(width).room(&entry);
                assert!(rows.iter().all(|span| row(&entry, span).width() <= room), "{width}: {text:.20}");
                let kept: String = rows.iter().map(|span| row(&entry, span)).collect();
                assert_eq!(kept.replace(' ', ""), entry.text.replace(' ', ""), "nothing is lost");
                let marks = rows.iter().filter(|span| is_mark(row(&entry, span).chars().next()));
                assert_eq!(marks.count(), 0, "a mark stays with its letter: {width}: {text:.20}");
            }
        }
    }

    fn is_mark(c: Option<char>) -> bool {
        c.is_some_and(|c| format!("a{c}").graphemes(true).count() == 1)
    }

    #[test]
    fn speakers_have_places_of_their_own() {
        let at =
            |speaker| layout(80).text(&Entry::new(EntryKind::Turn(speaker), Timestamp::from_unix_secs(1), "hi", None));
        assert!(at(Speaker::Agent) < at(Speaker::User) && at(Speaker::User) < at(Speaker::Tool));
    }

    #[test]
    fn a_tools_words_are_folded_until_they_are_opened() {
        let mut entry = tool(&"argument ".repeat(60));
        assert!(layout(80).lay_out(&entry).len() > 5);
        entry.open = false;
        assert_eq!(layout(80).lay_out(&entry).len(), 1);
    }
}
