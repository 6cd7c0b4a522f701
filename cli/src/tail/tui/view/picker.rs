//! The list of calls to choose from.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;

use super::super::app::TailApp;
use super::super::picker::{CallPicker, Candidate};
use super::footer;
use crate::term::drawable::drawable;
use crate::term::put_text;

/// Draws the text input and the calls around the selected one. Returns the position of the cursor.
pub(crate) fn draw(app: &TailApp, picker: &CallPicker, area: Rect, buffer: &mut Buffer) -> Position {
    let palette = app.palette;
    let shown = picker.shown();
    let first = Rect { height: 1, ..area };
    put_text(buffer, first, 0, "find: ", palette.strong());
    let cursor = footer::typed(&picker.line, 6, first, buffer);
    let list = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let place = picker.place(&shown);
    let from = place.saturating_sub(usize::from(list.height).saturating_sub(1));
    for (y, (index, call)) in (list.y..list.bottom()).zip(shown.iter().enumerate().skip(from)) {
        let row = Rect { y, height: 1, ..list };
        let style = match index == place {
            true => palette.selected(),
            false if call.live => Style::new(),
            false => palette.dim(),
        };
        if index == place {
            buffer.set_style(row, style);
        }
        put_text(buffer, row, 0, &drawable(&line(call, row.width)), style);
        if call.live {
            let live = if index == place { style } else { palette.good() };
            put_text(buffer, row, 0, "live", live);
        }
    }
    let word = match (&picker.error, picker.loaded, shown.is_empty()) {
        (Some(why), ..) => Some((why.clone(), palette.bad())),
        (None, false, _) => Some(("asking the server".into(), palette.dim())),
        (None, true, true) if picker.line.text().is_empty() => {
            Some(("no call yet; one appears here as soon as it comes in".into(), palette.dim()))
        }
        (None, true, true) => Some(("no call matches".into(), palette.dim())),
        _ => None,
    };
    if let Some((word, style)) = word {
        let y = (list.y + u16::try_from(shown.len()).unwrap_or(u16::MAX)).min(list.bottom().saturating_sub(1));
        put_text(buffer, Rect { y, height: 1, ..list }, 0, &drawable(&word), style);
    }
    cursor
}

/// Describes a call on one row, with what tells it apart first.
fn line(call: &Candidate, width: u16) -> String {
    let state = if call.live { "live" } else { call.status.as_str() };
    if width < 60 {
        return format!("{state:9} {}  {}", call.sid, call.about);
    }
    let started = call.started.get(5..16).unwrap_or(&call.started);
    format!("{state:9}  {started}  {:>4} turns  {}  {}", call.turns, call.sid, call.about)
}
