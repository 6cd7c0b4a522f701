//! Drawing: from the app to the screen, and nothing else.

mod footer;
mod header;
mod help;
mod transcript;

use callscope_common::Speaker;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use unicode_width::UnicodeWidthStr as _;

use super::app::{App, FRAME_ROWS, SMALLEST};

/// Draws everything.
pub fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        return too_small(area, buffer);
    }
    header::draw(app, Rect { height: 3, ..area }, buffer);
    let body = Rect { y: area.y + 3, height: area.height - FRAME_ROWS, ..area };
    if app.help {
        help::draw(app, body, buffer);
    } else {
        transcript::draw(app, body, buffer);
    }
    footer::draw(app, Rect { y: area.bottom() - 1, height: 1, ..area }, buffer);
}

fn too_small(area: Rect, buffer: &mut Buffer) {
    let lines = [format!("too small: {}x{}", area.width, area.height), format!("needs {}x{}", SMALLEST.0, SMALLEST.1)];
    for (row, line) in (area.y..area.bottom()).zip(lines) {
        buffer.set_stringn(area.x, row, line, area.width.into(), Style::new());
    }
}

/// The colours: of the terminal's own sixteen, on its own background.
struct Palette {
    on: bool,
}

impl Palette {
    fn of(app: &App) -> Self {
        Self { on: app.color }
    }

    fn fg(&self, color: Color) -> Style {
        if self.on { Style::new().fg(color) } else { Style::new() }
    }

    fn speaker(&self, speaker: Speaker) -> Style {
        self.fg(match speaker {
            Speaker::Agent => Color::Cyan,
            Speaker::User => Color::Green,
            Speaker::Tool => Color::Yellow,
        })
    }

    fn dim(&self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }
}

/// Puts `left` and `right` at the ends of a row. `right` is shown whole; `left` gets what is left.
fn ends(buffer: &mut Buffer, row: Rect, (left, left_style): (&str, Style), (right, right_style): (&str, Style)) {
    let width = usize::from(row.width);
    let right = crate::output::cut(right, Some(width));
    let taken = right.width();
    let room = width.saturating_sub(if taken > 0 { taken + 1 } else { 0 });
    buffer.set_stringn(row.x, row.y, crate::output::cut(left, Some(room)), room, left_style);
    let x = u16::try_from(width - taken).unwrap_or(0);
    buffer.set_stringn(row.x + x, row.y, right, taken, right_style);
}
