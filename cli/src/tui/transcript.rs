//! A call's transcript on a screen: what is shown of it, where the screen stands in it, and what is selected.
//!
//! Entries are known by their index, and by their position among those that are shown. Only what is on the screen is laid
//! out, and what was laid out is kept for as long as it is near.

use std::collections::HashMap;

use callscope_common::Speaker;

use super::entry::{Columns, Entry, Kind, Span, Times};
use super::pattern::Pattern;

/// How many entries may be kept laid out.
const LAID_OUT: usize = 1024;

/// See the module's text.
#[derive(Debug)]
pub struct Transcript {
    entries: Vec<Entry>,
    /// What is being said: shown behind all entries.
    partials: Vec<Partial>,
    /// The indices of those shown; `None` where all are.
    shown: Option<Vec<usize>>,
    filter: Option<Pattern>,
    hidden: Vec<Speaker>,
    search: Option<Pattern>,
    /// The indices of the entries that were searched for.
    matches: Vec<usize>,
    columns: Columns,
    /// Rows of the screen.
    body: usize,
    follow: bool,
    /// The selected position.
    selected: usize,
    top: Top,
    /// So many positions have been on the screen.
    seen: usize,
    laid: HashMap<usize, Box<[Span]>>,
    rows: Vec<Row>,
    /// How many entries were laid out, ever.
    #[cfg(test)]
    work: usize,
}

#[derive(Debug)]
struct Partial {
    turn: Option<String>,
    entry: Entry,
}

/// The first row on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Top {
    position: usize,
    row: usize,
}

/// A row on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The position of its entry.
    pub position: usize,
    /// Which of the entry's rows.
    pub line: usize,
    /// The text.
    pub span: Span,
}

impl Transcript {
    /// Empty.
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            partials: Vec::new(),
            shown: None,
            filter: None,
            hidden: Vec::new(),
            search: None,
            matches: Vec::new(),
            columns: Columns { width: 80, times: Times::Since, wrap: true, start: None },
            body: 20,
            follow: true,
            selected: 0,
            top: Top::default(),
            seen: 0,
            laid: HashMap::new(),
            rows: Vec::new(),
            #[cfg(test)]
            work: 0,
        }
    }

    /// Adds an entry at the end. [`Transcript::settle`] shows it.
    pub fn push(&mut self, entry: Entry) {
        let index = self.entries.len();
        if let Kind::Turn(speaker) = entry.kind {
            self.partials.retain(|partial| partial.entry.kind != Kind::Partial(speaker));
        }
        if self.search.as_ref().is_some_and(|search| search.matches(&entry.text)) {
            self.matches.push(index);
        }
        if self.shown.is_some() && self.is_shown(&entry) {
            self.shown.get_or_insert_default().push(index);
        }
        self.entries.push(entry);
    }

    /// Replaces what is being said of one turn.
    pub fn say(&mut self, turn: Option<String>, entry: Entry) {
        let same = |partial: &&mut Partial| match (&partial.turn, &turn) {
            (Some(before), Some(now)) => before == now,
            _ => partial.entry.kind == entry.kind,
        };
        match self.partials.iter_mut().find(same) {
            Some(partial) => partial.entry = entry,
            None => self.partials.push(Partial { turn, entry }),
        }
    }

    /// Nothing is being said any more.
    pub fn hush(&mut self) {
        self.partials.clear();
    }

    /// Replaces an entry's text and kind in place.
    pub fn amend(&mut self, index: usize, kind: Kind, text: &str) {
        if let Some(entry) = self.entries.get_mut(index) {
            *entry = Entry::new(kind, entry.at, text, entry.raw.as_deref());
            self.laid.remove(&index);
        }
    }

    /// Forgets all entries.
    pub fn clear(&mut self) {
        let (columns, body, search, filter) = (self.columns, self.body, self.search.take(), self.filter.take());
        let hidden = std::mem::take(&mut self.hidden);
        *self = Self { columns, body, search, filter, hidden, ..Self::new() };
        self.refilter();
    }

    /// All entries, as they came.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at a position.
    pub fn entry(&self, position: usize) -> Option<&Entry> {
        match position.checked_sub(self.kept()) {
            Some(partial) => self.partials.get(partial).map(|partial| &partial.entry),
            None => self.entries.get(self.index(position)),
        }
    }

    /// How many positions there are.
    pub fn len(&self) -> usize {
        self.kept() + self.partials.len()
    }

    /// What is on the screen.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Where things stand.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Whether the screen goes along with what comes.
    pub fn follows(&self) -> bool {
        self.follow
    }

    /// The selected position and its entry.
    pub fn selected(&self) -> (usize, Option<&Entry>) {
        (self.selected, self.entry(self.selected))
    }

    /// The message that the selected entry came with. That of a result is kept with its first part, the outcome.
    pub fn selected_raw(&self) -> Option<&str> {
        let selected = self.entry(self.selected)?;
        if !matches!(selected.kind, Kind::Result(_)) {
            return selected.raw.as_deref();
        }
        let mut before = (0..self.selected).rev().filter_map(|position| self.entry(position));
        before.find(|entry| matches!(entry.kind, Kind::Outcome(_)))?.raw.as_deref()
    }

    /// How many entries came that were not on the screen yet.
    pub fn new_below(&self) -> usize {
        self.len().saturating_sub(self.seen)
    }

    /// How many entries stand below the screen.
    pub fn below(&self) -> usize {
        self.rows.last().map_or(0, |row| self.len() - 1 - row.position)
    }

    /// The filter, and the speakers that are left out.
    pub fn filter(&self) -> (Option<&Pattern>, &[Speaker]) {
        (self.filter.as_ref(), &self.hidden)
    }

    /// What was searched for.
    pub fn search(&self) -> Option<&Pattern> {
        self.search.as_ref()
    }

    /// How many entries match the search, and the number of the selected one among them.
    pub fn found(&self) -> (usize, Option<usize>) {
        let selected = (self.selected < self.kept()).then(|| self.index(self.selected));
        (self.matches.len(), selected.and_then(|index| self.matches.binary_search(&index).ok()))
    }

    /// How many entries were laid out so far.
    #[cfg(test)]
    pub fn work(&self) -> usize {
        self.work
    }

    fn kept(&self) -> usize {
        self.shown.as_ref().map_or(self.entries.len(), Vec::len)
    }

    fn index(&self, position: usize) -> usize {
        self.shown.as_ref().map_or(position, |shown| shown.get(position).copied().unwrap_or(usize::MAX))
    }

    fn position(&self, index: usize) -> usize {
        self.shown.as_ref().map_or(index, |shown| shown.partition_point(|shown| *shown < index))
    }

    fn is_shown(&self, entry: &Entry) -> bool {
        let Some(speaker) = entry.kind.speaker() else { return true };
        !self.hidden.contains(&speaker) && self.filter.as_ref().is_none_or(|filter| filter.matches(&entry.text))
    }

    /// Shows only turns that match; everything where there is no filter.
    pub fn set_filter(&mut self, filter: Option<Pattern>) {
        self.filter = filter;
        self.refilter();
    }

    /// Leaves a speaker out, or lets it in again.
    pub fn toggle(&mut self, speaker: Speaker) {
        if self.hidden.contains(&speaker) {
            self.hidden.retain(|hidden| *hidden != speaker);
        } else {
            self.hidden.push(speaker);
        }
        self.refilter();
    }

    /// Finds out anew what is shown, and stays where it is.
    fn refilter(&mut self) {
        let (selected, top) = (self.index(self.selected), self.index(self.top.position));
        let all = self.filter.is_none() && self.hidden.is_empty();
        let shown = |transcript: &Self| {
            let entries = transcript.entries.iter().enumerate();
            entries.filter(|(_, entry)| transcript.is_shown(entry)).map(|(index, _)| index).collect()
        };
        self.shown = (!all).then(|| shown(self));
        self.selected = self.position(selected);
        self.top = Top { position: self.position(top), row: 0 };
        self.seen = self.len();
        self.settle();
    }

    /// Searches; says whether something was found.
    pub fn set_search(&mut self, search: Option<Pattern>) -> bool {
        self.matches = match &search {
            Some(search) => {
                let entries = self.entries.iter().enumerate();
                entries.filter(|(_, entry)| search.matches(&entry.text)).map(|(index, _)| index).collect()
            }
            None => Vec::new(),
        };
        self.search = search;
        // What is selected counts as found, so that a search narrows down on the spot.
        let from = self.selected.checked_sub(1).map_or(usize::MAX, |before| self.index(before));
        self.go_to_match(from, true)
    }

    /// Goes to the next match, or to the one before, around the ends; says whether there is any.
    pub fn find(&mut self, forward: bool) -> bool {
        self.go_to_match(self.index(self.selected), forward)
    }

    fn go_to_match(&mut self, from: usize, forward: bool) -> bool {
        let candidates: Vec<usize> = match &self.shown {
            None => self.matches.clone(),
            Some(shown) => self.matches.iter().copied().filter(|index| shown.binary_search(index).is_ok()).collect(),
        };
        let after = if from == usize::MAX { 0 } else { candidates.partition_point(|index| *index <= from) };
        let before = candidates.partition_point(|index| *index < from);
        let found = if forward {
            candidates.get(after).or(candidates.first())
        } else {
            before.checked_sub(1).map_or(candidates.last(), |before| candidates.get(before))
        };
        let Some(index) = found.copied() else { return false };
        self.open(index, true);
        self.select(self.position(index));
        true
    }

    /// Opens the selected tool call, or folds it.
    pub fn unfold(&mut self) {
        let index = self.index(self.selected);
        let open = self.entries.get(index).is_some_and(|entry| entry.open);
        self.open(index, !open);
        self.show_selected();
        self.settle();
    }

    fn open(&mut self, index: usize, open: bool) {
        if let Some(entry) = self.entries.get_mut(index)
            && entry.kind == Kind::Turn(Speaker::Tool)
            && entry.open != open
        {
            entry.open = open;
            self.laid.remove(&index);
        }
    }

    /// Lays out for a screen.
    pub fn resize(&mut self, columns: Columns, body: usize) {
        if columns != self.columns {
            self.laid.clear();
            self.top.row = 0;
        }
        (self.columns, self.body) = (columns, body);
        self.settle();
    }

    /// Follows from the end on, or holds.
    pub fn set_follow(&mut self, follow: bool) {
        self.follow = follow;
        self.settle();
    }

    /// Moves the screen by pages; the selection goes along.
    pub fn page(&mut self, down: bool) {
        let rows = self.body.saturating_sub(1).max(1);
        self.top = if down { self.forth(self.top, rows) } else { self.back(self.top, rows) };
        self.hold();
        self.settle();
        let end = self.end_top();
        // The first and the last page are reached with their first and last entry.
        if down && self.top >= end {
            self.selected = self.len().saturating_sub(1);
            self.follow_at_end();
        } else if !down && self.top == Top::default() {
            self.selected = 0;
        }
    }

    /// Selects the next entry; where one is longer than the screen, moves on within it first.
    pub fn step(&mut self, down: bool) {
        let cut = |row: Option<&Row>| row.is_some_and(|row| row.position == self.selected);
        let within = if down {
            let last = self.rows.last();
            cut(last)
                && last.is_some_and(|row| {
                    row.line + 1 < self.laid.get(&self.index(row.position)).map_or(1, |rows| rows.len())
                })
        } else {
            cut(self.rows.first()) && self.top.row > 0
        };
        if within {
            self.top = if down { self.forth(self.top, 1) } else { self.back(self.top, 1) };
            self.hold();
            self.settle();
        } else if down {
            self.select((self.selected + 1).min(self.len().saturating_sub(1)));
            self.follow_at_end();
        } else {
            self.select(self.selected.saturating_sub(1));
        }
    }

    /// Selects the first entry, or the last and follows.
    pub fn end(&mut self, last: bool) {
        if last { self.set_follow(true) } else { self.select(0) }
    }

    /// Selects a position and holds there.
    pub fn select(&mut self, position: usize) {
        self.selected = position;
        self.hold();
        self.show_selected();
        self.settle();
    }

    fn hold(&mut self) {
        if std::mem::replace(&mut self.follow, false) {
            self.seen = self.len();
        }
    }

    fn follow_at_end(&mut self) {
        let end = self.end_top();
        if self.selected + 1 >= self.len() && self.top >= end {
            self.follow = true;
        }
        self.settle();
    }

    /// Moves the screen as little as shows the selected entry whole, or its beginning.
    fn show_selected(&mut self) {
        let begin = Top { position: self.selected, row: 0 };
        let lowest = self.back(Top { position: self.selected + 1, row: 0 }, self.body);
        self.top = self.top.clamp(lowest.min(begin), begin);
    }

    /// Puts the screen where it belongs after something changed.
    pub fn settle(&mut self) {
        let end = self.end_top();
        self.selected = self.selected.min(self.len().saturating_sub(1));
        if self.follow {
            self.selected = self.len().saturating_sub(1);
            self.top = end;
        } else {
            self.top = self.top.min(end);
            // What is being said may have become shorter.
            self.top.row = self.top.row.min(self.spans(self.top.position).len().saturating_sub(1));
        }
        self.fill();
        let on_screen = self.rows.last().map_or(0, |row| row.position + 1);
        // Keys act upon what is selected, so it is never out of sight.
        if let (Some(first), Some(last)) = (self.rows.first(), self.rows.last()) {
            self.selected = self.selected.clamp(first.position, last.position);
        }
        self.seen = self.seen.min(self.len()).max(on_screen);
    }

    fn fill(&mut self) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.clear();
        let (mut position, mut line) = (self.top.position, self.top.row);
        while rows.len() < self.body && position < self.len() {
            let room = self.body - rows.len();
            let spans = self.spans(position);
            let spans = spans.iter().enumerate().skip(line).take(room);
            rows.extend(spans.map(|(line, span)| Row { position, line, span: span.clone() }));
            (position, line) = (position + 1, 0);
        }
        self.rows = rows;
    }

    /// The top of a screen that shows the end.
    fn end_top(&mut self) -> Top {
        self.back(Top { position: self.len(), row: 0 }, self.body)
    }

    fn back(&mut self, from: Top, rows: usize) -> Top {
        let (mut top, mut left) = (from, rows);
        while left > top.row {
            left -= top.row;
            if top.position == 0 {
                return Top::default();
            }
            top.position -= 1;
            top.row = self.spans(top.position).len();
        }
        Top { row: top.row - left, ..top }
    }

    fn forth(&mut self, from: Top, rows: usize) -> Top {
        let end = self.end_top();
        let (mut top, mut left) = (from, rows);
        while top.position < self.len() {
            let height = self.spans(top.position).len();
            if top.row + left < height {
                top.row += left;
                break;
            }
            left -= height - top.row;
            top = Top { position: top.position + 1, row: 0 };
        }
        top.min(end)
    }

    /// The rows of the entry at a position, laid out unless they are already.
    fn spans(&mut self, position: usize) -> &[Span] {
        // What is being said changes all the time, and has no index: it is kept under one that no entry has.
        let kept = self.kept();
        let index = if position < kept { self.index(position) } else { usize::MAX - (position - kept) };
        if position >= kept || !self.laid.contains_key(&index) {
            let columns = self.columns;
            let Some(entry) = self.entry(position) else { return &[] };
            let spans = columns.lay_out(entry);
            #[cfg(test)]
            {
                self.work += 1;
            }
            if self.laid.len() >= LAID_OUT {
                self.laid.clear();
            }
            self.laid.insert(index, spans);
        }
        self.laid.get(&index).map_or(&[], |spans| spans)
    }
}

#[cfg(test)]
#[path = "transcript_tests.rs"]
mod tests;
