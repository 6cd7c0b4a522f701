//! Drawing: from the state to the screen, and nothing else.

mod header;
mod over;
mod table;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use unicode_width::UnicodeWidthStr as _;

use super::state::{FRAME_ROWS, Link, Over, Top};
use crate::render::{Tint, cut};
use crate::term::draw_if_too_small;
use crate::term::drawable::drawable;
use crate::term::palette::Palette;

pub use over::detail_rows;

/// The smallest screen that is drawn on.
pub const SMALLEST: (u16, u16) = (40, 12);

/// Draws everything.
pub fn draw(top: &Top, area: Rect, buffer: &mut Buffer) {
    if draw_if_too_small(area, SMALLEST, buffer) {
        return;
    }
    header::draw(top, Rect { height: 4, ..area }, buffer);
    let list = Rect { y: area.y + 4, height: area.height - FRAME_ROWS + 1, ..area };
    match &top.over {
        Over::Help(at) => over::help(top, *at, list, buffer),
        Over::Detail(detail) => over::detail(top, detail, list, buffer),
        Over::Nothing | Over::Filter { .. } | Over::Confirm(_) => table::draw(top, list, buffer),
    }
    if let Over::Confirm(deed) = &top.over {
        over::confirm(top, deed, list, buffer);
    }
    footer(top, Rect { y: area.bottom() - 1, height: 1, ..area }, buffer);
}

fn palette(top: &Top) -> Palette {
    Palette::new(top.color)
}

fn tinted(top: &Top, tint: Tint) -> Style {
    match tint {
        Tint::Plain => Style::new(),
        Tint::Header => palette(top).strong(),
        Tint::Good => palette(top).good(),
        Tint::Odd => palette(top).warn(),
        Tint::Bad => palette(top).bad(),
    }
}

/// Puts a text at `x` of a row, cut with `…` where there is no room; made safe to draw.
fn put(buffer: &mut Buffer, row: Rect, x: usize, room: usize, text: &str, style: Style) {
    let room = room.min(usize::from(row.width).saturating_sub(x));
    let text = drawable(text);
    if let Ok(x) = u16::try_from(x) {
        buffer.set_stringn(row.x.saturating_add(x), row.y, cut(&text, Some(room)), room, style);
    }
}

/// Puts `left` and `right` at the ends of a row. `right` is shown whole; `left` gets what is left.
fn ends(buffer: &mut Buffer, row: Rect, (left, left_style): (&str, Style), (right, right_style): (&str, Style)) {
    let width = usize::from(row.width);
    let right = cut(right, Some(width));
    let taken = right.width();
    put(buffer, row, 0, width.saturating_sub(if taken > 0 { taken + 1 } else { 0 }), left, left_style);
    put(buffer, row, width - taken, taken, &right, right_style);
}

/// Where the cursor stands, while something is typed.
pub fn cursor(top: &Top, area: Rect) -> Option<(u16, u16)> {
    let Over::Filter { line, .. } = &top.over else { return None };
    let column = 1 + drawable(line.before()).width();
    let column = u16::try_from(column).unwrap_or(u16::MAX).min(area.width.saturating_sub(1));
    Some((area.x + column, area.bottom().saturating_sub(1)))
}

/// The footer: what is typed or was done, and the keys.
fn footer(top: &Top, row: Rect, buffer: &mut Buffer) {
    let page = top.page();
    let (left, style) = match (&top.over, &top.notice) {
        (Over::Filter { line, .. }, _) => (format!("/{}", line.text()), palette(top).strong()),
        (_, Some(notice)) if is_fresh(top) => {
            let tint = if notice.is_good { Tint::Good } else { Tint::Bad };
            (notice.text.clone(), tinted(top, tint).add_modifier(Modifier::BOLD))
        }
        _ if !page.filter.is_empty() => (format!("filter: {}", page.filter), palette(top).warn()),
        (Over::Nothing, _) => match &top.link {
            Link::Lost(_, why) => (why.clone(), palette(top).warn()),
            Link::Connecting | Link::Live(_) => (String::new(), palette(top).dim()),
        },
        _ => (String::new(), palette(top).dim()),
    };
    ends(buffer, row, (&left, style), (&keys(top), palette(top).dim()));
}

/// Whether the last notice is still shown: as long as it takes to read it.
fn is_fresh(top: &Top) -> bool {
    top.notice.as_ref().is_some_and(|notice| top.now.secs_since(notice.at) < 10.0)
}

fn keys(top: &Top) -> String {
    let deed = match top.deed() {
        Some(super::data::Deed::Kick { .. }) => "K kick  ",
        Some(super::data::Deed::Replay { .. }) => "R replay  ",
        None => "",
    };
    match &top.over {
        Over::Filter { .. } => "Enter keep  Esc undo".into(),
        Over::Confirm(_) => "y yes  n no".into(),
        Over::Help(_) | Over::Detail(_) => "↑↓ scroll  q back".into(),
        Over::Nothing if matches!(top.link, Link::Lost(..)) => "q quit".into(),
        Over::Nothing if is_fresh(top) && top.size.0 < 100 => "? help  q quit".into(),
        Over::Nothing if top.size.0 < 60 => format!("{deed}? help  q quit"),
        Over::Nothing => format!("{deed}Enter open  / filter  <> sort  ? help  q quit"),
    }
}
