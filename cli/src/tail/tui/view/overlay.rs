//! The keys, and a message as it came, in place of the transcript.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::super::app::TailApp;
use super::super::keys::HELP;
use super::super::raw_view::RawView;
use crate::term::put_text;

/// The keys, from a row on.
pub fn help(app: &TailApp, top: usize, area: Rect, buffer: &mut Buffer) {
    for (y, (keys, what)) in (area.y..area.bottom()).zip(HELP.iter().skip(top)) {
        let row = Rect { y, height: 1, ..area };
        put_text(buffer, row, 1, keys, app.palette.strong());
        put_text(buffer, row, 12, what, Style::new());
    }
}

/// A message.
pub fn raw(raw: &RawView, area: Rect, buffer: &mut Buffer) {
    for (y, text) in (area.y..area.bottom()).zip(raw.rows().iter().skip(raw.top)) {
        put_text(buffer, Rect { y, height: 1, ..area }, 0, text, Style::new());
    }
}
