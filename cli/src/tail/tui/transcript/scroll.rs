//! Where the screen stands: following, holding, moving, and which rows that shows.

use super::{Goal, Row, Top, Transcript};
use crate::tail::tui::entry::Columns;

impl Transcript {
    /// Lays out for a screen.
    pub fn resize(&mut self, columns: Columns, body: usize) {
        if columns != self.columns {
            self.laid.clear();
            self.laid_rows = 0;
            self.top.row = 0;
            self.goal = None;
        }
        (self.columns, self.body) = (columns, body);
        self.settle();
    }

    /// Follows from the end on, or holds.
    pub fn set_follow(&mut self, follow: bool) {
        self.goal = None;
        self.follow = follow;
        self.settle();
    }

    /// Moves the screen by pages; the selection goes along.
    pub fn page(&mut self, down: bool) {
        let rows = self.body.saturating_sub(1).max(1);
        let goal = (!down).then_some(Goal::Up(self.top, rows));
        self.top = if down { self.forth(self.top, rows) } else { self.back(self.top, rows) };
        self.hold();
        self.goal = goal;
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
        self.go(position, None);
    }

    /// The same; where it was searched for, shows the first or last match in it.
    pub(super) fn go(&mut self, position: usize, forward: Option<bool>) {
        self.hold();
        self.goal = Some(Goal::Entry { position, forward });
        self.settle();
    }

    fn hold(&mut self) {
        self.goal = None;
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
    pub(super) fn show_selected(&mut self) {
        let begin = Top { position: self.selected, row: 0 };
        let lowest = self.back(Top { position: self.selected + 1, row: 0 }, self.body);
        self.top = self.top.clamp(lowest.min(begin), begin);
    }

    /// Puts the screen where it belongs after something changed.
    pub fn settle(&mut self) {
        match self.goal {
            Some(Goal::Up(from, rows)) => self.top = self.back(from, rows),
            Some(Goal::Entry { position, forward }) => {
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
        if self.goal.is_some() && self.missing().is_empty() {
            self.goal = None;
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
            rows.extend(spans.map(|(line, span)| Row { position, line, span: span.clone() }));
            (position, line) = (position + 1, 0);
        }
        self.rows = rows;
    }

    /// The top of a screen that shows the end.
    fn end_top(&mut self) -> Top {
        self.back(Top { position: self.len(), row: 0 }, self.body)
    }

    pub(super) fn back(&mut self, from: Top, rows: usize) -> Top {
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
}
