//! The overlays with the keys, and with a message as it came.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::super::app::TailApp;
use super::super::keys::HELP;
use super::super::raw_view::RawView;
use crate::term::put_text;

/// Draws the keys, from the row `top` on.
pub(crate) fn help(app: &TailApp, top: usize, area: Rect, buffer: &mut Buffer) {
    for (y, (keys, what)) in (area.y..area.bottom()).zip(HELP.iter().skip(top)) {
        let row = Rect { y, height: 1, ..area };
        put_text(buffer, row, 1, keys, app.palette.strong());
        put_text(buffer, row, 12, what, Style::new());
    }
}

pub(crate) fn raw(raw: &RawView, area: Rect, buffer: &mut Buffer) {
    for (y, text) in (area.y..area.bottom()).zip(raw.rows().iter().skip(raw.top)) {
        put_text(buffer, Rect { y, height: 1, ..area }, 0, text, Style::new());
    }
}
