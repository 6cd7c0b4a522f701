//! Bounds the memory of a transcript. It holds the texts near the screen and evicts those that are farthest from it,
//! which are read from the server again when they come into sight. The entries themselves stay, so that positions,
//! folds and matches do not change.

use std::ops::RangeInclusive;

use callscope_common::Seq;

use super::{Entry, Transcript};

/// How many entries above and below the screen are read together with those on it.
const AROUND: usize = 16;

/// A match in an evicted event: the seq of the event, and the index of the entry among those of the event.
pub(crate) type EventMatch = (Seq, usize);

impl Transcript {
    /// Limits the bytes of text that are held. What is on the screen is always held.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.evict_distant();
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Counts the text of an entry and evicts others if the limit is exceeded.
    pub(super) fn count_text(&mut self, index: usize) {
        let Some(entry) = self.entries.get(index).filter(|entry| entry.seq > 0) else { return };
        self.held += entry.size();
        self.resident.insert(index);
        self.evict_distant();
    }

    /// Evicts the texts that are farthest from the screen until the limit is met.
    pub(crate) fn evict_distant(&mut self) {
        while self.held > self.limit {
            let on_screen = self.on_screen();
            let (Some(first), Some(last)) = (self.resident.first().copied(), self.resident.last().copied()) else {
                return;
            };
            let (above, below) = (on_screen.start().saturating_sub(first), last.saturating_sub(*on_screen.end()));
            let index = match (above, below) {
                // Everything that is left is on the screen.
                (0, 0) => return,
                _ if above >= below => first,
                _ => last,
            };
            self.evict(index);
        }
    }

    /// Evicts all entries of the event that an entry belongs to.
    fn evict(&mut self, index: usize) {
        let seq = self.entries.get(index).map_or(0, |entry| entry.seq);
        let first = self.first_of(seq);
        for index in first.. {
            let Some(entry) = self.entries.get_mut(index).filter(|entry| entry.seq == seq) else { break };
            if self.resident.remove(&index) {
                self.held -= entry.size();
                entry.evict();
                self.layout_cache.remove(&index);
            }
        }
    }

    /// Returns the indices from the first to the last row, and of what comes next where the end is followed.
    fn on_screen(&self) -> RangeInclusive<usize> {
        let last = self.entries.len().saturating_sub(1);
        let place = |row: Option<&super::ScreenRow>| row.map_or(last, |row| self.index(row.position).min(last));
        let first = place(self.rows.first());
        if self.follow { first..=last } else { first..=place(self.rows.last()) }
    }

    /// Returns the events to read for the screen and the entries around it, as ranges: behind the first seq, up to the
    /// second. It is empty if everything on the screen is held.
    pub(crate) fn missing_on_screen(&self) -> Vec<(Seq, Seq)> {
        let evicted = |position: usize| self.entry(position).filter(|entry| entry.is_evicted());
        let mut rows = self.rows.iter().filter(|row| evicted(row.position).is_some()).map(|row| row.position);
        let Some(first) = rows.next() else { return Vec::new() };
        let last = rows.next_back().unwrap_or(first);
        let around = first.saturating_sub(AROUND)..=(last + AROUND).min(self.shown_len().saturating_sub(1));
        ranges(around.filter_map(evicted).map(|entry| entry.seq))
    }

    /// Returns all evicted events as ranges: behind the first seq, up to the second.
    pub(crate) fn evicted(&self) -> Vec<(Seq, Seq)> {
        ranges(self.entries.iter().filter(|entry| entry.is_evicted()).map(|entry| entry.seq))
    }

    /// Takes in an event that was read again.
    pub(crate) fn restore(&mut self, seq: Seq, entries: Vec<Entry>) {
        let first = self.first_of(seq);
        for (index, mut entry) in (first..).zip(entries) {
            let Some(known) = self.entries.get_mut(index) else { break };
            if known.seq != seq || !known.is_evicted() {
                continue;
            }
            (entry.open, entry.passes) = (known.open, known.passes);
            *known = entry;
            self.layout_cache.remove(&index);
            self.held += self.entries[index].size();
            self.resident.insert(index);
        }
    }

    /// Shows the events that were read again and evicts others. Call it when all requested events have come.
    pub(crate) fn restored(&mut self) {
        self.refresh();
        self.evict_distant();
    }

    /// Adds evicted events to the matches of the search.
    pub(crate) fn found_search(&mut self, found: &[EventMatch]) {
        let matches: Vec<usize> = found.iter().map(|found| self.index_of(*found)).collect();
        self.matches.extend(matches);
        self.matches.sort_unstable();
        self.matches.dedup();
    }

    /// Shows evicted events that match the filter.
    pub(crate) fn found_filter(&mut self, found: &[EventMatch]) {
        for found in found {
            let index = self.index_of(*found);
            if let Some(entry) = self.entries.get_mut(index) {
                entry.passes = true;
            }
        }
        self.refilter();
    }

    fn index_of(&self, (seq, part): EventMatch) -> usize {
        self.first_of(seq) + part
    }

    /// Returns the index of the first entry of an event. A note stands behind the event that it came after.
    fn first_of(&self, seq: Seq) -> usize {
        let before = |entry: &Entry| entry.seq.max(entry.behind) < seq;
        self.entries.partition_point(before)
    }
}

/// Joins seqs in ascending order into ranges. Events between them may have no entry, such as a change of the status.
fn ranges(seqs: impl Iterator<Item = Seq>) -> Vec<(Seq, Seq)> {
    /// A gap of so few events is read rather than left out.
    const BETWEEN: Seq = 4;
    let mut ranges: Vec<(Seq, Seq)> = Vec::new();
    for seq in seqs {
        match ranges.last_mut() {
            Some((_, to)) if seq - *to <= BETWEEN => *to = seq,
            _ => ranges.push((seq - 1, seq)),
        }
    }
    ranges
}
