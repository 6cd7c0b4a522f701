//! A call's transcript on a screen: what is shown of it, where the screen stands in it, and what is selected.
//!
//! Entries are known by their index, and by their position among those that are shown. Only what is on the screen is laid
//! out, and what was laid out is kept for as long as it is near.

mod eviction;
mod scroll;
mod search;

use std::collections::{BTreeSet, HashMap};

use callscope_common::{Seq, Speaker};

use super::entry::{Entry, EntryKind, Layout, TextSpan, TimeDisplay};
use crate::tail::pattern::Pattern;

pub use eviction::EventMatch;

/// How many rows may be kept laid out, beside those on the screen.
const MAX_CACHED_ROWS: usize = 1 << 18;
/// Most turns being said at one time; beyond it the oldest is left out.
const MAX_PARTIALS: usize = 16;

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
    target: Option<ScrollTarget>,
    /// What is being said: shown behind all entries.
    partials: Vec<PartialTurn>,
    /// The indices of those shown; `None` where all are.
    shown: Option<Vec<usize>>,
    filter: Option<Pattern>,
    hidden: Vec<Speaker>,
    search: Option<Pattern>,
    /// The indices of the entries that were searched for.
    matches: Vec<usize>,
    layout: Layout,
    /// Rows of the screen.
    body: usize,
    follow: bool,
    /// The selected position.
    selected: usize,
    top: ScrollPosition,
    /// So many positions have been on the screen.
    seen: usize,
    layout_cache: HashMap<usize, Box<[TextSpan]>>,
    cached_rows: usize,
    rows: Vec<ScreenRow>,
    /// How many entries were laid out, ever.
    #[cfg(test)]
    layout_count: usize,
}

#[derive(Debug)]
struct PartialTurn {
    turn: Option<String>,
    entry: Entry,
}

/// The first row on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct ScrollPosition {
    position: usize,
    row: usize,
}

/// Where a key leads.
#[derive(Debug, Clone, Copy)]
enum ScrollTarget {
    /// So many rows up from there.
    Up(ScrollPosition, usize),
    /// To the entry at a position; where it was searched for, to the first or last match in it.
    Entry { position: usize, forward: Option<bool> },
}

/// A row on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScreenRow {
    /// The position of its entry.
    pub position: usize,
    /// Which of the entry's rows.
    pub line: usize,
    /// The text.
    pub span: TextSpan,
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
            target: None,
            partials: Vec::new(),
            shown: None,
            filter: None,
            hidden: Vec::new(),
            search: None,
            matches: Vec::new(),
            layout: Layout { width: 80, times: TimeDisplay::Since, wrap: true, start: None },
            body: 20,
            follow: true,
            selected: 0,
            top: ScrollPosition::default(),
            seen: 0,
            layout_cache: HashMap::new(),
            cached_rows: 0,
            rows: Vec::new(),
            #[cfg(test)]
            layout_count: 0,
        }
    }

    /// Adds an entry at the end. [`Transcript::refresh`] shows it.
    pub fn push(&mut self, mut entry: Entry) {
        let index = self.entries.len();
        entry.behind = self.newest;
        self.newest = self.newest.max(entry.seq);
        self.events += usize::from(entry.seq > 0);
        entry.passes = self.filter.as_ref().is_none_or(|filter| filter.matches(&entry.text));
        if let EntryKind::Turn(speaker) = entry.kind {
            self.partials.retain(|partial| partial.entry.kind != EntryKind::Partial(speaker));
        }
        if self.search.as_ref().is_some_and(|search| search.matches(&entry.text)) {
            self.matches.push(index);
        }
        if self.shown.is_some() && self.is_shown(&entry) {
            self.shown.get_or_insert_default().push(index);
        }
        self.entries.push(entry);
        self.count_text(index);
    }

    /// Replaces what is being said of one turn.
    pub fn set_partial(&mut self, turn: Option<String>, entry: Entry) {
        let same = |partial: &&mut PartialTurn| match (&partial.turn, &turn) {
            (Some(before), Some(now)) => before == now,
            _ => partial.entry.kind == entry.kind,
        };
        match self.partials.iter_mut().find(same) {
            Some(partial) => partial.entry = entry,
            None => {
                if self.partials.len() >= MAX_PARTIALS {
                    self.partials.remove(0);
                }
                self.partials.push(PartialTurn { turn, entry });
            }
        }
    }

    /// Nothing is being said any more.
    pub fn clear_partials(&mut self) {
        self.partials.clear();
    }

    /// Replaces an entry's text and kind in place.
    pub fn replace(&mut self, index: usize, kind: EntryKind, text: &str) {
        if let Some(entry) = self.entries.get_mut(index) {
            let (behind, passes) = (entry.behind, entry.passes);
            *entry = Entry::new(kind, entry.at, text, entry.raw.as_deref());
            (entry.behind, entry.passes) = (behind, passes);
            self.layout_cache.remove(&index);
        }
    }

    /// Forgets all entries.
    pub fn clear(&mut self) {
        let (layout, body, search, filter) = (self.layout, self.body, self.search.take(), self.filter.take());
        let (hidden, limit) = (std::mem::take(&mut self.hidden), self.limit);
        *self = Self { layout, body, search, filter, hidden, limit, ..Self::new() };
        self.refilter();
    }

    /// All entries, as they came.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at a position.
    pub fn entry(&self, position: usize) -> Option<&Entry> {
        match position.checked_sub(self.shown_len()) {
            Some(partial) => self.partials.get(partial).map(|partial| &partial.entry),
            None => self.entries.get(self.index(position)),
        }
    }

    /// How many positions there are.
    pub fn len(&self) -> usize {
        self.shown_len() + self.partials.len()
    }

    /// What is on the screen.
    pub fn rows(&self) -> &[ScreenRow] {
        &self.rows
    }

    /// Where things stand.
    pub fn layout(&self) -> &Layout {
        &self.layout
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
        if !matches!(selected.kind, EntryKind::Result(_)) {
            return selected.raw.as_deref();
        }
        let mut before = (0..self.selected).rev().filter_map(|position| self.entry(position));
        before.find(|entry| matches!(entry.kind, EntryKind::Outcome(_)))?.raw.as_deref()
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
        let selected = (self.selected < self.shown_len()).then(|| self.index(self.selected));
        (self.matches.len(), selected.and_then(|index| self.matches.binary_search(&index).ok()))
    }

    /// How many entries were laid out so far.
    #[cfg(test)]
    pub fn layout_count(&self) -> usize {
        self.layout_count
    }

    fn shown_len(&self) -> usize {
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
        self.refresh();
    }

    fn open(&mut self, index: usize, open: bool) {
        if let Some(entry) = self.entries.get_mut(index)
            && entry.kind == EntryKind::Turn(Speaker::Tool)
            && entry.open != open
        {
            entry.open = open;
            self.layout_cache.remove(&index);
        }
    }

    /// The rows of the entry at a position, laid out unless they are already.
    fn spans(&mut self, position: usize) -> &[TextSpan] {
        // What is being said changes all the time, and has no index: it is kept under one that no entry has.
        let kept = self.shown_len();
        let index = if position < kept { self.index(position) } else { usize::MAX - (position - kept) };
        if position >= kept || !self.layout_cache.contains_key(&index) {
            let layout = self.layout;
            let Some(entry) = self.entry(position) else { return &[] };
            let spans = layout.lay_out(entry);
            #[cfg(test)]
            {
                self.layout_count += 1;
            }
            if self.cached_rows >= MAX_CACHED_ROWS {
                self.layout_cache.clear();
                self.cached_rows = 0;
            }
            self.cached_rows += spans.len();
            self.layout_cache.insert(index, spans);
        }
        self.layout_cache.get(&index).map_or(&[], |spans| spans)
    }
}

#[cfg(test)]
#[path = "transcript_tests.rs"]
mod tests;
