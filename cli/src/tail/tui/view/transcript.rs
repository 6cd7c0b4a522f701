//! The rows of the transcript that are on the screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

use super::super::app::TailApp;
use super::super::call_tab::{CallTab, ConnectionState};
use super::super::entry::{Entry, EntryKind, row as row_text};
use super::super::transcript::ScreenRow;
use crate::term::put_text;

pub(crate) fn draw(app: &TailApp, area: Rect, buffer: &mut Buffer) {
    let Some(tab) = app.tab() else {
        return put_text(buffer, Rect { height: 1, ..area }, 0, "waiting for a call", app.palette.dim());
    };
    if tab.transcript.rows().is_empty() {
        let row = Rect { height: 1, ..area };
        return put_text(buffer, row, 0, empty(tab), app.palette.dim());
    }
    for (y, row) in (area.y..area.bottom()).zip(tab.transcript.rows()) {
        if let Some(entry) = tab.transcript.entry(row.position) {
            draw_row(app, tab, entry, row, Rect { y, height: 1, ..area }, buffer);
        }
    }
}

fn draw_row(app: &TailApp, tab: &CallTab, entry: &Entry, row: &ScreenRow, area: Rect, buffer: &mut Buffer) {
    let palette = app.palette;
    let layout = tab.transcript.layout();
    let style = match entry.kind {
        EntryKind::Turn(_) => Style::new(),
        EntryKind::Partial(_) => palette.dim(),
        EntryKind::Note(kind) | EntryKind::Result(kind) => palette.tint(kind),
        EntryKind::Outcome(kind) => palette.tint(kind).add_modifier(Modifier::BOLD),
    };
    let selected = !tab.transcript.follows() && tab.transcript.selected().0 == row.position;
    if row.line == 0 {
        let mark = |style: Style| if selected { style.patch(palette.selected()) } else { style };
        match entry.kind.speaker() {
            Some(speaker) => {
                put_text(buffer, area, 0, &layout.time(entry), mark(palette.dim()));
                put_text(buffer, area, layout.speaker(entry), speaker.as_str(), mark(palette.speaker(speaker)));
            }
            None => put_text(buffer, area, 0, "--", mark(style)),
        }
    }
    let column = layout.text(entry);
    if entry.is_evicted() {
        return put_text(buffer, area, column, "…", palette.dim());
    }
    let text = row_text(entry, &row.span);
    let room = usize::from(area.width).saturating_sub(column);
    let text = crate::render::cut(text, Some(room));
    put_text(buffer, area, column, &text, style);
    if let Some(search) = tab.transcript.search() {
        for found in search.ranges(&text) {
            // A letter is marked together with its marks, since it stands in one cell.
            let mut ends = text.grapheme_indices(true).map(|(at, _)| at).chain([text.len()]);
            let Some(end) = ends.find(|end| *end >= found.end) else { continue };
            let starts = text.grapheme_indices(true).map(|(at, _)| at);
            let start = starts.take_while(|start| *start <= found.start).last().unwrap_or(found.start);
            let found = start..end;
            let at = column + text[..found.start].width();
            put_text(buffer, area, at, &text[found], palette.found());
        }
    }
}

fn empty(tab: &CallTab) -> &'static str {
    let (filter, hidden) = tab.transcript.filter();
    match &tab.connection {
        _ if !tab.transcript.entries().is_empty() && (filter.is_some() || !hidden.is_empty()) => "no turn matches",
        ConnectionState::Connecting => "connecting",
        ConnectionState::Waiting => "waiting for the call to appear",
        ConnectionState::Ended => "nothing was said",
        _ => "waiting for the first words",
    }
}
