//! The footer: what waits below, and the keys.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::super::app::App;
use super::{Palette, ends};

/// One row.
pub fn draw(app: &App, row: Rect, buffer: &mut Buffer) {
    let palette = Palette::of(app);
    let keys = if row.width < 60 { "? help  q quit" } else { "↑↓ scroll  f follow  ? help  q quit" };
    let (left, style) = if app.follow {
        (if app.is_over() { "end" } else { "following" }.to_owned(), palette.dim())
    } else if app.new_below > 0 {
        let paused = palette.fg(Color::Yellow).add_modifier(Modifier::BOLD);
        (format!("PAUSED  {} new below", app.new_below), paused)
    } else {
        ("PAUSED".to_owned(), Style::new().add_modifier(Modifier::BOLD))
    };
    ends(buffer, row, (&left, style), (keys, palette.dim()));
}
