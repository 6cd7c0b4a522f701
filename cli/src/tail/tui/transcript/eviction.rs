//! How much of a transcript is held: the texts near the screen and the newest ones. The others are read from the server again when
//! they come into sight; of them stays what they are, so that places, folds and matches do not change.

use std::ops::RangeInclusive;

use callscope_common::Seq;

use super::{Entry, Transcript};

/// So many entries above and below the screen are read along with those on it.
const AROUND: usize = 16;

/// A match that was found in events that are not held: the event, and which of its entries.
pub type EventMatch = (Seq, usize);

impl Transcript {
    /// Holds at most so many bytes of text, and what is on the screen.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.evict_distant();
    }

    /// How many bytes of text are held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Counts an entry's text in, and lets go of others for it.
    pub(super) fn count_text(&mut self, index: usize) {
        let Some(entry) = self.entries.get(index).filter(|entry| entry.seq > 0) else { return };
        self.held += entry.size();
        self.resident.insert(index);
        self.evict_distant();
    }

    /// Lets go of the texts that are farthest from the screen.
    pub fn evict_distant(&mut self) {
        while self.held > self.limit {
            let on_screen = self.on_screen();
            let (Some(first), Some(last)) = (self.resident.first().copied(), self.resident.last().copied()) else {
                return;
            };
            let (above, below) = (on_screen.start().saturating_sub(first), last.saturating_sub(*on_screen.end()));
            let index = match (above, below) {
                // What is on the screen stays.
                (0, 0) => return,
                _ if above >= below => first,
                _ => last,
            };
            self.evict(index);
        }
    }

    /// Lets go of the event that an entry is of, whole.
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

    /// The indices of the entries between the first and the last row; what comes next, where the end is followed.
    fn on_screen(&self) -> RangeInclusive<usize> {
        let last = self.entries.len().saturating_sub(1);
        let place = |row: Option<&super::ScreenRow>| row.map_or(last, |row| self.index(row.position).min(last));
        let first = place(self.rows.first());
        if self.follow { first..=last } else { first..=place(self.rows.last()) }
    }

    /// The events to be read for what is on the screen and around it, as ranges: behind the first seq, up to the second. None where
    /// all that is on the screen is there.
    pub fn missing_on_screen(&self) -> Vec<(Seq, Seq)> {
        let evicted = |position: usize| self.entry(position).filter(|entry| entry.is_evicted());
        let mut rows = self.rows.iter().filter(|row| evicted(row.position).is_some()).map(|row| row.position);
        let Some(first) = rows.next() else { return Vec::new() };
        let last = rows.next_back().unwrap_or(first);
        let around = first.saturating_sub(AROUND)..=(last + AROUND).min(self.shown_len().saturating_sub(1));
        ranges(around.filter_map(evicted).map(|entry| entry.seq))
    }

    /// The events that are not held, as ranges: behind the first seq, up to the second.
    pub fn evicted(&self) -> Vec<(Seq, Seq)> {
        ranges(self.entries.iter().filter(|entry| entry.is_evicted()).map(|entry| entry.seq))
    }

    /// Takes in an event that was read again.
    pub fn restore(&mut self, seq: Seq, entries: Vec<Entry>) {
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

    /// All that was asked for is there: shows it, and lets go of others.
    pub fn restored(&mut self) {
        self.refresh();
        self.evict_distant();
    }

    /// Takes in which events that are not held match the search.
    pub fn found_search(&mut self, found: &[EventMatch]) {
        let matches: Vec<usize> = found.iter().map(|found| self.index_of(*found)).collect();
        self.matches.extend(matches);
        self.matches.sort_unstable();
        self.matches.dedup();
    }

    /// Takes in which events that are not held match the filter.
    pub fn found_filter(&mut self, found: &[EventMatch]) {
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

    /// The first entry of an event. Notes stand behind the event that they came after.
    fn first_of(&self, seq: Seq) -> usize {
        let before = |entry: &Entry| entry.seq.max(entry.behind) < seq;
        self.entries.partition_point(before)
    }
}

/// Seqs in their order as ranges. What lies between two of a range is no entry, as a change of the status, or is one.
fn ranges(seqs: impl Iterator<Item = Seq>) -> Vec<(Seq, Seq)> {
    /// So many events between two are rather read than asked around.
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
