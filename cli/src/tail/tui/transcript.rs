//! The transcript of a call: its entries, the position of the screen in it, and the selected entry.
//!
//! An entry has an index among all entries, and a position among those that are shown. Only what is on the screen is
//! laid out, and the layout is cached.

mod eviction;
mod scroll;
mod search;

use std::collections::{BTreeSet, HashMap};

use callscope_common::{Seq, Speaker};

use super::entry::{Entry, EntryKind, Layout, TextSpan, TimeDisplay};
use crate::tail::pattern::Pattern;

pub(crate) use eviction::EventMatch;

/// Most rows in the layout cache.
const MAX_CACHED_ROWS: usize = 1 << 18;
/// Most partial turns at one time. Beyond it, the oldest is dropped.
const MAX_PARTIALS: usize = 16;

#[derive(Debug)]
pub(crate) struct Transcript {
    entries: Vec<Entry>,
    /// How many entries belong to events.
    events: usize,
    /// The indices of the entries that hold the text of an event.
    resident: BTreeSet<usize>,
    /// The bytes of these texts, and the most that they may take.
    held: usize,
    limit: usize,
    /// The seq of the newest event.
    newest: Seq,
    /// Where the last key led. It is kept until everything on that screen is held, since only then its rows can be
    /// counted.
    target: Option<ScrollTarget>,
    /// Partial turns, which are shown behind all entries.
    partials: Vec<PartialTurn>,
    /// The indices of the shown entries; `None` where all are shown.
    shown: Option<Vec<usize>>,
    filter: Option<Pattern>,
    hidden: Vec<Speaker>,
    search: Option<Pattern>,
    /// The indices of the entries that match the search.
    matches: Vec<usize>,
    layout: Layout,
    /// The rows of the screen.
    body: usize,
    follow: bool,
    /// The position of the selected entry.
    selected: usize,
    top: ScrollPosition,
    /// How many positions have been on the screen.
    seen: usize,
    layout_cache: HashMap<usize, Box<[TextSpan]>>,
    cached_rows: usize,
    rows: Vec<ScreenRow>,
    /// How many entries were laid out, for tests.
    #[cfg(test)]
    layout_count: usize,
}

#[derive(Debug)]
struct PartialTurn {
    turn: Option<String>,
    entry: Entry,
}

/// A row of the transcript: the position of its entry, and the row within the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct ScrollPosition {
    position: usize,
    row: usize,
}

/// Where a key leads.
#[derive(Debug, Clone, Copy)]
enum ScrollTarget {
    /// This many rows up from a position.
    Up(ScrollPosition, usize),
    /// The entry at a position. After a search, the first or the last match in it.
    Entry { position: usize, forward: Option<bool> },
}

/// A row on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScreenRow {
    /// The position of its entry.
    pub(crate) position: usize,
    /// The row within the entry.
    pub(crate) line: usize,
    /// The text of the row.
    pub(crate) span: TextSpan,
}

impl Transcript {
    pub(crate) fn new() -> Self {
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
    pub(crate) fn push(&mut self, mut entry: Entry) {
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

    /// Replaces the partial turn with the same id, or of the same speaker.
    pub(crate) fn set_partial(&mut self, turn: Option<String>, entry: Entry) {
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

    pub(crate) fn clear_partials(&mut self) {
        self.partials.clear();
    }

    /// Replaces the text and the kind of an entry.
    pub(crate) fn replace(&mut self, index: usize, kind: EntryKind, text: &str) {
        if let Some(entry) = self.entries.get_mut(index) {
            let (behind, passes) = (entry.behind, entry.passes);
            *entry = Entry::new(kind, entry.at, text, entry.raw.as_deref());
            (entry.behind, entry.passes) = (behind, passes);
            self.layout_cache.remove(&index);
        }
    }

    /// Removes all entries.
    pub(crate) fn clear(&mut self) {
        let (layout, body, search, filter) = (self.layout, self.body, self.search.take(), self.filter.take());
        let (hidden, limit) = (std::mem::take(&mut self.hidden), self.limit);
        *self = Self { layout, body, search, filter, hidden, limit, ..Self::new() };
        self.refilter();
    }

    /// Returns all entries in the order in which they came.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the entry at a position.
    pub(crate) fn entry(&self, position: usize) -> Option<&Entry> {
        match position.checked_sub(self.shown_len()) {
            Some(partial) => self.partials.get(partial).map(|partial| &partial.entry),
            None => self.entries.get(self.index(position)),
        }
    }

    /// Returns the number of positions.
    pub(crate) fn len(&self) -> usize {
        self.shown_len() + self.partials.len()
    }

    /// Returns the rows on the screen.
    pub(crate) fn rows(&self) -> &[ScreenRow] {
        &self.rows
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns whether the screen follows the end.
    pub(crate) fn follows(&self) -> bool {
        self.follow
    }

    /// Returns the selected position and its entry.
    pub(crate) fn selected(&self) -> (usize, Option<&Entry>) {
        (self.selected, self.entry(self.selected))
    }

    /// Returns the message that the selected entry was made from. The message of a result is kept with its first entry,
    /// the outcome.
    pub(crate) fn selected_raw(&self) -> Option<&str> {
        let selected = self.entry(self.selected)?;
        if !matches!(selected.kind, EntryKind::Result(_)) {
            return selected.raw.as_deref();
        }
        let mut before = (0..self.selected).rev().filter_map(|position| self.entry(position));
        before.find(|entry| matches!(entry.kind, EntryKind::Outcome(_)))?.raw.as_deref()
    }

    /// Returns how many entries have never been on the screen.
    pub(crate) fn new_below(&self) -> usize {
        self.len().saturating_sub(self.seen)
    }

    /// Returns how many entries are below the screen.
    pub(crate) fn below(&self) -> usize {
        self.rows.last().map_or(0, |row| self.len() - 1 - row.position)
    }

    /// Returns the filter and the hidden speakers.
    pub(crate) fn filter(&self) -> (Option<&Pattern>, &[Speaker]) {
        (self.filter.as_ref(), &self.hidden)
    }

    pub(crate) fn search(&self) -> Option<&Pattern> {
        self.search.as_ref()
    }

    /// Returns how many entries match the search, and the index of the selected entry among them.
    pub(crate) fn found(&self) -> (usize, Option<usize>) {
        let selected = (self.selected < self.shown_len()).then(|| self.index(self.selected));
        (self.matches.len(), selected.and_then(|index| self.matches.binary_search(&index).ok()))
    }

    #[cfg(test)]
    pub(crate) fn layout_count(&self) -> usize {
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

    /// Unfolds the selected tool call, or folds it.
    pub(crate) fn unfold(&mut self) {
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

    /// Returns the rows of the entry at a position, from the cache if they are there.
    fn spans(&mut self, position: usize) -> &[TextSpan] {
        // A partial turn changes all the time and has no index. It is cached under an index that no entry has.
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
