//! The transcript: only the rows on the screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::super::app::App;
use super::super::call::Link;
use super::super::entry::{Entry, Kind};
use super::super::glyph::drawable;
use super::Palette;

/// Draws the rows from the app's top on.
pub fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    if app.rows() == 0 {
        return empty(app, area, buffer);
    }
    let mut skip = app.top;
    let mut rows = area.y..area.bottom();
    for entry in app.shown() {
        if skip >= entry.rows.len() {
            skip -= entry.rows.len();
            continue;
        }
        for (index, text) in entry.rows.iter().enumerate().skip(skip) {
            let Some(y) = rows.next() else { return };
            draw_row(app, entry, index, text, Rect { y, height: 1, ..area }, buffer);
        }
        skip = 0;
    }
}

fn draw_row(app: &App, entry: &Entry, index: usize, text: &str, row: Rect, buffer: &mut Buffer) {
    let palette = Palette::of(app);
    let style = match entry.kind {
        Kind::Turn(_) => Style::new(),
        Kind::Partial(_) => palette.dim(),
        Kind::Note => palette.fg(Color::Yellow),
        Kind::Result => Style::new().add_modifier(Modifier::BOLD),
    };
    let put = |buffer: &mut Buffer, column: usize, text: &str, style: Style| {
        let room = usize::from(row.width).saturating_sub(column);
        if let Ok(column) = u16::try_from(column) {
            buffer.set_stringn(row.x.saturating_add(column), row.y, text, room, style);
        }
    };
    let column = app.columns.text(entry);
    if index == 0 {
        match entry.kind {
            Kind::Turn(speaker) | Kind::Partial(speaker) => {
                let label = app.columns.label;
                let gutter = if label > 0 { label + 1 } else { 0 };
                if label > 0 {
                    let name = drawable(&app.calls[entry.call].identifier);
                    put(buffer, 0, &short(&name, label), palette.dim());
                }
                put(buffer, gutter, &format!("{:>5}", entry.time), palette.dim());
                let at = column.saturating_sub(6);
                put(buffer, at, speaker.as_str(), palette.speaker(speaker).add_modifier(Modifier::BOLD));
            }
            Kind::Note | Kind::Result => put(buffer, 0, "--", style),
        }
    }
    put(buffer, column, text, style);
}

/// The end of a name: what tells calls apart.
fn short(name: &str, width: usize) -> String {
    let skip = name.chars().count().saturating_sub(width);
    if skip == 0 { name.to_owned() } else { std::iter::once('…').chain(name.chars().skip(skip + 1)).collect() }
}

fn empty(app: &App, area: Rect, buffer: &mut Buffer) {
    let text = match app.calls.first().map(|call| &call.link) {
        Some(Link::Connecting) => "connecting",
        Some(Link::Waiting) => "waiting for the call to appear",
        Some(Link::Ended) => "nothing was said",
        _ => "waiting for the first words",
    };
    buffer.set_stringn(area.x, area.y, text, area.width.into(), Palette::of(app).dim());
}
