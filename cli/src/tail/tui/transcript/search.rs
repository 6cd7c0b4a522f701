//! Search and filter: which entries match, and how to go from one match to the next.

use callscope_common::Speaker;

use super::{ScrollPosition, Transcript};
use crate::tail::pattern::Pattern;
use crate::tail::tui::entry::TextSpan;

impl Transcript {
    /// Shows only the turns that match, or all turns without a filter.
    pub(crate) fn set_filter(&mut self, filter: Option<Pattern>) {
        self.filter = filter;
        for entry in &mut self.entries {
            entry.passes = match &self.filter {
                // A search on the server finds the evicted turns that match.
                Some(filter) => !entry.is_evicted() && filter.matches(&entry.text),
                None => true,
            };
        }
        self.refilter();
    }

    /// Hides a speaker or shows it again.
    pub(crate) fn toggle(&mut self, speaker: Speaker) {
        if self.hidden.contains(&speaker) {
            self.hidden.retain(|hidden| *hidden != speaker);
        } else {
            self.hidden.push(speaker);
        }
        self.refilter();
    }

    /// Computes again which entries are shown, and keeps the place of the screen.
    pub(super) fn refilter(&mut self) {
        self.target = None;
        let (selected, top) = (self.index(self.selected), self.index(self.top.position));
        let all = self.filter.is_none() && self.hidden.is_empty();
        let shown = |transcript: &Self| {
            let entries = transcript.entries.iter().enumerate();
            entries.filter(|(_, entry)| transcript.is_shown(entry)).map(|(index, _)| index).collect()
        };
        self.shown = (!all).then(|| shown(self));
        self.selected = self.position(selected);
        self.top = ScrollPosition { position: self.position(top), row: 0 };
        self.seen = self.len();
        self.refresh();
    }

    /// Searches for a pattern. Returns whether anything matches.
    pub(crate) fn set_search(&mut self, search: Option<Pattern>) -> bool {
        self.matches = match &search {
            Some(search) => {
                let entries = self.entries.iter().enumerate();
                entries.filter(|(_, entry)| search.matches(&entry.text)).map(|(index, _)| index).collect()
            }
            None => Vec::new(),
        };
        self.search = search;
        // The selected entry may be the first match, so that a longer pattern can stay in its place.
        let from = self.selected.checked_sub(1).map_or(usize::MAX, |before| self.index(before));
        self.go_to_match(from, true)
    }

    /// Goes to the first match, unless the selected entry is one.
    pub(crate) fn go_to_first_found(&mut self) {
        if self.found().1.is_none() {
            self.go_to_match(self.index(self.selected), true);
        }
    }

    /// Goes to the next or the previous match, and around the ends. Returns whether there is any.
    pub(crate) fn find(&mut self, forward: bool) -> bool {
        // A later match in a turn that is longer than the screen comes before the next turn.
        let rows = self.rows.iter().filter(|row| row.position == self.selected).map(|row| row.line);
        let (first, last) = (rows.clone().min(), rows.max());
        let lines = self.hit_lines();
        let further = match (forward, first, last) {
            (true, _, Some(last)) => lines.into_iter().find(|line| *line > last),
            (false, Some(first), _) => lines.into_iter().rev().find(|line| *line < first),
            _ => None,
        };
        if let Some(line) = further {
            self.show_line(line);
            self.refresh();
            return true;
        }
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
        self.go(self.position(index), Some(forward));
        true
    }

    /// Shows the first or the last match in the selected entry.
    pub(super) fn show_hit(&mut self, first: bool) {
        let lines = self.hit_lines();
        let Some(line) = (if first { lines.first() } else { lines.last() }) else { return };
        self.fill();
        self.show_line(*line);
    }

    /// Returns the rows of the selected entry on which a match begins, in their order.
    fn hit_lines(&mut self) -> Vec<usize> {
        let selected = self.selected;
        let spans: Box<[TextSpan]> = self.spans(selected).into();
        let (Some(search), Some(entry)) = (&self.search, self.entry(selected)) else { return Vec::new() };
        let line = |hit: std::ops::Range<usize>| {
            spans.partition_point(|span| span.end as usize <= hit.start).min(spans.len().saturating_sub(1))
        };
        let mut lines: Vec<usize> = search.ranges(&entry.text).map(line).collect();
        lines.dedup();
        lines
    }

    /// Moves the screen so that a row of the selected entry is in its middle, unless the row is on the screen already.
    fn show_line(&mut self, line: usize) {
        let selected = self.selected;
        if self.rows.iter().any(|row| (row.position, row.line) == (selected, line)) {
            return;
        }
        self.top = self.rows_above(ScrollPosition { position: selected, row: line }, self.body / 2);
    }
}
