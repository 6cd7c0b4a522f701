//! The overlays: the keys, the details of a row, and the question before an action.

use callscope_common::text;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::super::keys;
use super::super::message::AdminAction;
use super::super::state::{DetailView, TopApp};
use super::{palette, put};
use crate::term::drawable::drawable;

/// The column where the values of details begin.
const INDENT: usize = 14;

/// Draws the keys, from the row `at` on.
pub(crate) fn help(top: &TopApp, at: usize, area: Rect, buffer: &mut Buffer) {
    for (y, (key, what)) in (area.y..area.bottom()).zip(keys::help(top.read_only).skip(at)) {
        let row = Rect { y, height: 1, ..area };
        put(buffer, row, 1, 12, key, palette(top).strong());
        put(buffer, row, 14, area.width.into(), what, Style::new());
    }
}

pub(crate) fn detail(top: &TopApp, detail: &DetailView, area: Rect, buffer: &mut Buffer) {
    let Some(lines) = wrapped_rows(detail, area.width) else {
        return put(buffer, Rect { height: 1, ..area }, 0, area.width.into(), "asking the server", palette(top).dim());
    };
    let body = Rect { height: area.height, ..area };
    for ((name, text), y) in lines.iter().skip(detail.top).zip(body.y..body.bottom()) {
        let row = Rect { y, height: 1, ..area };
        put(buffer, row, 0, INDENT - 1, name, palette(top).dim());
        put(buffer, row, INDENT, area.width.into(), text, Style::new());
    }
}

/// Returns how many rows the details need at this width.
pub(crate) fn detail_rows(detail: &DetailView, width: u16) -> usize {
    wrapped_rows(detail, width).map_or(1, |lines| lines.len())
}

fn wrapped_rows(detail: &DetailView, width: u16) -> Option<Vec<(String, String)>> {
    let room = usize::from(width).saturating_sub(INDENT).max(10);
    let mut rows = Vec::new();
    for (name, value) in detail.lines.as_ref()? {
        let mut name = name.clone();
        for line in text::lines(value).lines() {
            // Leading blanks are the indentation of JSON, which wrapped lines repeat.
            let blank = line.len() - line.trim_start_matches(' ').len();
            let indent = " ".repeat(blank.min(room / 2));
            let options = textwrap::Options::new(room).initial_indent(&indent).subsequent_indent(&indent);
            for wrapped in textwrap::wrap(&drawable(line.trim_start_matches(' ')), options) {
                rows.push((std::mem::take(&mut name), wrapped.into_owned()));
            }
        }
    }
    Some(rows)
}

/// Draws the question before an action.
pub(crate) fn confirm(top: &TopApp, action: &AdminAction, area: Rect, buffer: &mut Buffer) {
    let (question, consequence) = match action {
        AdminAction::Kick { who, .. } => (format!("Kick {who}?"), "Its client does not come back by itself."),
        AdminAction::Replay { what, .. } => (format!("Replay {what}?"), "It is taken in again as if it came now."),
    };
    let width = area.width.min(70);
    let height = 6.min(area.height);
    let room = usize::from(width).saturating_sub(4);
    let window = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let edge = palette(top).warn().add_modifier(Modifier::BOLD);
    let row = |index: u16| Rect { y: window.y + index, height: 1, ..window };
    for index in 0..height {
        let line = match index {
            0 => format!("┌{}┐", "─".repeat(usize::from(width) - 2)),
            last if last == height - 1 => format!("└{}┘", "─".repeat(usize::from(width) - 2)),
            _ => format!("│{}│", " ".repeat(usize::from(width) - 2)),
        };
        buffer.set_style(row(index), Style::reset());
        buffer.set_stringn(window.x, window.y + index, line, width.into(), edge);
    }
    put(buffer, row(1), 2, room, &question, palette(top).strong());
    put(buffer, row(2), 2, room, consequence, Style::new());
    put(buffer, row(4), 2, room, "y yes   n no", palette(top).strong());
}
