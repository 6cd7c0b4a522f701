//! The position of the screen: following the end, holding, moving, and the rows that result.

use super::{ScreenRow, ScrollPosition, ScrollTarget, Transcript};
use crate::tail::tui::entry::Layout;

impl Transcript {
    /// Lays the transcript out for a screen of `body` rows.
    pub(crate) fn resize(&mut self, layout: Layout, body: usize) {
        if layout != self.layout {
            self.layout_cache.clear();
            self.cached_rows = 0;
            self.top.row = 0;
            self.target = None;
        }
        (self.layout, self.body) = (layout, body);
        self.refresh();
    }

    /// Follows the end, or stops following.
    pub(crate) fn set_follow(&mut self, follow: bool) {
        self.target = None;
        self.follow = follow;
        self.refresh();
    }

    /// Moves the screen by a page together with the selection.
    pub(crate) fn page(&mut self, down: bool) {
        let rows = self.body.saturating_sub(1).max(1);
        let target = (!down).then_some(ScrollTarget::Up(self.top, rows));
        self.top = if down { self.rows_below(self.top, rows) } else { self.rows_above(self.top, rows) };
        self.hold();
        self.target = target;
        self.refresh();
        let end = self.end_top();
        // The first and the last page select the first and the last entry.
        if down && self.top >= end {
            self.selected = self.len().saturating_sub(1);
            self.follow_at_end();
        } else if !down && self.top == ScrollPosition::default() {
            self.selected = 0;
        }
    }

    /// Selects the next or the previous entry. In an entry that is longer than the screen, moves by a row first.
    pub(crate) fn step(&mut self, down: bool) {
        let cut = |row: Option<&ScreenRow>| row.is_some_and(|row| row.position == self.selected);
        let within = if down {
            let last = self.rows.last();
            cut(last)
                && last.is_some_and(|row| {
                    row.line + 1 < self.layout_cache.get(&self.index(row.position)).map_or(1, |rows| rows.len())
                })
        } else {
            cut(self.rows.first()) && self.top.row > 0
        };
        if within {
            self.top = if down { self.rows_below(self.top, 1) } else { self.rows_above(self.top, 1) };
            self.hold();
            self.refresh();
        } else if down {
            self.select((self.selected + 1).min(self.len().saturating_sub(1)));
            self.follow_at_end();
        } else {
            self.select(self.selected.saturating_sub(1));
        }
    }

    /// Selects the first entry, or follows the end.
    pub(crate) fn end(&mut self, last: bool) {
        if last { self.set_follow(true) } else { self.select(0) }
    }

    /// Selects a position and stops following.
    pub(crate) fn select(&mut self, position: usize) {
        self.go(position, None);
    }

    /// Selects a position and stops following. With `forward`, shows the first or the last match in the entry.
    pub(super) fn go(&mut self, position: usize, forward: Option<bool>) {
        self.hold();
        self.target = Some(ScrollTarget::Entry { position, forward });
        self.refresh();
    }

    fn hold(&mut self) {
        self.target = None;
        if std::mem::replace(&mut self.follow, false) {
            self.seen = self.len();
        }
    }

    fn follow_at_end(&mut self) {
        let end = self.end_top();
        if self.selected + 1 >= self.len() && self.top >= end {
            self.follow = true;
        }
        self.refresh();
    }

    /// Moves the screen as little as possible to show the selected entry, or its beginning if it is too long.
    pub(super) fn show_selected(&mut self) {
        let begin = ScrollPosition { position: self.selected, row: 0 };
        let lowest = self.rows_above(ScrollPosition { position: self.selected + 1, row: 0 }, self.body);
        self.top = self.top.clamp(lowest.min(begin), begin);
    }

    /// Brings the screen up to date after a change.
    pub(crate) fn refresh(&mut self) {
        match self.target {
            Some(ScrollTarget::Up(from, rows)) => self.top = self.rows_above(from, rows),
            Some(ScrollTarget::Entry { position, forward }) => {
                self.selected = position.min(self.len().saturating_sub(1));
                self.show_selected();
                if let Some(forward) = forward {
                    self.show_hit(forward);
                }
            }
            None => {}
        }
        let end = self.end_top();
        self.selected = self.selected.min(self.len().saturating_sub(1));
        if self.follow {
            self.selected = self.len().saturating_sub(1);
            self.top = end;
        } else {
            self.top = self.top.min(end);
            // A partial turn may have become shorter.
            self.top.row = self.top.row.min(self.spans(self.top.position).len().saturating_sub(1));
        }
        self.fill();
        let on_screen = self.rows.last().map_or(0, |row| row.position + 1);
        // Keys act upon the selected entry, so it must be on the screen.
        if let (Some(first), Some(last)) = (self.rows.first(), self.rows.last()) {
            self.selected = self.selected.clamp(first.position, last.position);
        }
        self.seen = self.seen.min(self.len()).max(on_screen);
        if self.target.is_some() && self.missing_on_screen().is_empty() {
            self.target = None;
        }
    }

    pub(super) fn fill(&mut self) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.clear();
        let (mut position, mut line) = (self.top.position, self.top.row);
        while rows.len() < self.body && position < self.len() {
            let room = self.body - rows.len();
            let spans = self.spans(position);
            let spans = spans.iter().enumerate().skip(line).take(room);
            rows.extend(spans.map(|(line, span)| ScreenRow { position, line, span: span.clone() }));
            (position, line) = (position + 1, 0);
        }
        self.rows = rows;
    }

    /// Returns the position of a screen that shows the end.
    fn end_top(&mut self) -> ScrollPosition {
        self.rows_above(ScrollPosition { position: self.len(), row: 0 }, self.body)
    }

    pub(super) fn rows_above(&mut self, from: ScrollPosition, rows: usize) -> ScrollPosition {
        let (mut top, mut left) = (from, rows);
        while left > top.row {
            left -= top.row;
            if top.position == 0 {
                return ScrollPosition::default();
            }
            top.position -= 1;
            top.row = self.spans(top.position).len();
        }
        ScrollPosition { row: top.row - left, ..top }
    }

    fn rows_below(&mut self, from: ScrollPosition, rows: usize) -> ScrollPosition {
        let end = self.end_top();
        let (mut top, mut left) = (from, rows);
        while top.position < self.len() {
            let height = self.spans(top.position).len();
            if top.row + left < height {
                top.row += left;
                break;
            }
            left -= height - top.row;
            top = ScrollPosition { position: top.position + 1, row: 0 };
        }
        top.min(end)
    }
}
