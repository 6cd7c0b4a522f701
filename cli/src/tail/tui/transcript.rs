//! A call's transcript on a screen: what is shown of it, where the screen stands in it, and what is selected.
//!
//! Entries are known by their index, and by their position among those that are shown. Only what is on the screen is laid
//! out, and what was laid out is kept for as long as it is near.

mod bounded;
mod find;
mod scroll;

use std::collections::{BTreeSet, HashMap};

use callscope_common::{Seq, Speaker};

use super::entry::{Columns, Entry, Kind, Span, Times};
use crate::tail::pattern::Pattern;

pub use bounded::Found;

/// How many rows may be kept laid out, beside those on the screen.
const LAID_OUT: usize = 1 << 18;
/// Most turns being said at one time; beyond it the oldest is left out.
const MOST_PARTIALS: usize = 16;

/// See the module's text.
#[derive(Debug)]
pub struct Transcript {
    entries: Vec<Entry>,
    /// How many of them are of events,
    events: usize,
    /// which of those have their text,
    resident: BTreeSet<usize>,
    /// how many bytes that is, and how many it may be.
    held: usize,
    limit: usize,
    /// The newest event.
    newest: Seq,
    /// Where the last key led, until all that is on the screen there is held: only then it is known how many rows that takes.
    goal: Option<Goal>,
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
    laid_rows: usize,
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

/// Where a key leads.
#[derive(Debug, Clone, Copy)]
enum Goal {
    /// So many rows up from there.
    Up(Top, usize),
    /// To the entry at a position; where it was searched for, to the first or last match in it.
    Entry { position: usize, forward: Option<bool> },
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
            events: 0,
            resident: BTreeSet::new(),
            held: 0,
            limit: usize::MAX,
            newest: 0,
            goal: None,
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
            laid_rows: 0,
            rows: Vec::new(),
            #[cfg(test)]
            work: 0,
        }
    }

    /// Adds an entry at the end. [`Transcript::settle`] shows it.
    pub fn push(&mut self, mut entry: Entry) {
        let index = self.entries.len();
        entry.behind = self.newest;
        self.newest = self.newest.max(entry.seq);
        self.events += usize::from(entry.seq > 0);
        entry.passes = self.filter.as_ref().is_none_or(|filter| filter.matches(&entry.text));
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
        self.hold_text(index);
    }

    /// Replaces what is being said of one turn.
    pub fn say(&mut self, turn: Option<String>, entry: Entry) {
        let same = |partial: &&mut Partial| match (&partial.turn, &turn) {
            (Some(before), Some(now)) => before == now,
            _ => partial.entry.kind == entry.kind,
        };
        match self.partials.iter_mut().find(same) {
            Some(partial) => partial.entry = entry,
            None => {
                if self.partials.len() >= MOST_PARTIALS {
                    self.partials.remove(0);
                }
                self.partials.push(Partial { turn, entry });
            }
        }
    }

    /// Nothing is being said any more.
    pub fn hush(&mut self) {
        self.partials.clear();
    }

    /// Replaces an entry's text and kind in place.
    pub fn amend(&mut self, index: usize, kind: Kind, text: &str) {
        if let Some(entry) = self.entries.get_mut(index) {
            let (behind, passes) = (entry.behind, entry.passes);
            *entry = Entry::new(kind, entry.at, text, entry.raw.as_deref());
            (entry.behind, entry.passes) = (behind, passes);
            self.laid.remove(&index);
        }
    }

    /// Forgets all entries.
    pub fn clear(&mut self) {
        let (columns, body, search, filter) = (self.columns, self.body, self.search.take(), self.filter.take());
        let (hidden, limit) = (std::mem::take(&mut self.hidden), self.limit);
        *self = Self { columns, body, search, filter, hidden, limit, ..Self::new() };
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
        !self.hidden.contains(&speaker) && entry.passes
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
            if self.laid_rows >= LAID_OUT {
                self.laid.clear();
                self.laid_rows = 0;
            }
            self.laid_rows += spans.len();
            self.laid.insert(index, spans);
        }
        self.laid.get(&index).map_or(&[], |spans| spans)
    }
}

#[cfg(test)]
#[path = "transcript_tests.rs"]
mod tests;
