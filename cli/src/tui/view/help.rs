//! The keys, in place of the transcript.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::super::app::App;
use super::super::keys::HELP;

/// Draws the list.
pub fn draw(_: &App, area: Rect, buffer: &mut Buffer) {
    for (y, (keys, what)) in (area.y..area.bottom()).zip(HELP) {
        buffer.set_stringn(area.x + 1, y, keys, 11, Style::new().add_modifier(Modifier::BOLD));
        buffer.set_stringn(area.x + 13, y, what, usize::from(area.width).saturating_sub(13), Style::new());
    }
}
