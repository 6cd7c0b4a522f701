//! Draws a [`TopApp`] without changing it.

mod header;
mod overlay;
mod table;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use unicode_width::UnicodeWidthStr as _;

use super::state::{FRAME_ROWS, Overlay, ServerState, TopApp};
use crate::render::{Tint, cut};
use crate::term::drawable::drawable;
use crate::term::palette::Palette;
use crate::term::{draw_if_too_small, put_ends, put_text};

pub(crate) use overlay::detail_rows;

/// Fewest columns and rows that the view is drawn on.
pub(crate) const MIN_SIZE: (u16, u16) = (40, 12);
/// How many seconds the outcome of an action stays in the footer.
const NOTICE_SECS: f64 = 10.0;

pub(crate) fn draw(top: &TopApp, area: Rect, buffer: &mut Buffer) {
    if draw_if_too_small(area, MIN_SIZE, buffer) {
        return;
    }
    header::draw(top, Rect { height: 4, ..area }, buffer);
    let list = Rect { y: area.y + 4, height: area.height - FRAME_ROWS + 1, ..area };
    match &top.overlay {
        Overlay::Help(at) => overlay::help(top, *at, list, buffer),
        Overlay::Detail(detail) => overlay::detail(top, detail, list, buffer),
        Overlay::None | Overlay::Filter { .. } | Overlay::Confirm(_) => table::draw(top, list, buffer),
    }
    if let Overlay::Confirm(action) = &top.overlay {
        overlay::confirm(top, action, list, buffer);
    }
    footer(top, Rect { y: area.bottom() - 1, height: 1, ..area }, buffer);
}

fn palette(top: &TopApp) -> Palette {
    Palette::new(top.color)
}

/// Draws `text` at column `x` of a row, sanitised, and cut with `…` if it is wider than `room` or the row.
fn put(buffer: &mut Buffer, row: Rect, x: usize, room: usize, text: &str, style: Style) {
    let room = room.min(usize::from(row.width).saturating_sub(x));
    put_text(buffer, row, x, &cut(&drawable(text), Some(room)), style);
}

/// Returns the position of the cursor while the filter is typed.
pub(crate) fn cursor(top: &TopApp, area: Rect) -> Option<(u16, u16)> {
    let Overlay::Filter { line, .. } = &top.overlay else { return None };
    let column = 1 + drawable(line.before()).width();
    let column = u16::try_from(column).unwrap_or(u16::MAX).min(area.width.saturating_sub(1));
    Some((area.x + column, area.bottom().saturating_sub(1)))
}

/// Draws the last row: the filter, a notice or the error of the server, and the keys.
fn footer(top: &TopApp, row: Rect, buffer: &mut Buffer) {
    let page = top.tab_state();
    let (left, style) = match (&top.overlay, &top.notice) {
        (Overlay::Filter { line, .. }, _) => (format!("/{}", line.text()), palette(top).strong()),
        (_, Some(notice)) if is_notice_visible(top) => {
            let tint = if notice.is_good { Tint::Good } else { Tint::Bad };
            (notice.text.clone(), palette(top).tint(tint).add_modifier(Modifier::BOLD))
        }
        _ if !page.filter.is_empty() => (format!("filter: {}", page.filter), palette(top).warn()),
        (Overlay::None, _) => match &top.server_state {
            ServerState::Lost(_, why) => (why.clone(), palette(top).warn()),
            ServerState::Connecting | ServerState::Live(_) => (String::new(), palette(top).dim()),
        },
        _ => (String::new(), palette(top).dim()),
    };
    put_ends(buffer, row, (&drawable(&left), style), (&keys(top), palette(top).dim()));
}

fn is_notice_visible(top: &TopApp) -> bool {
    top.notice.as_ref().is_some_and(|notice| top.now.secs_since(notice.at) < NOTICE_SECS)
}

fn keys(top: &TopApp) -> String {
    let action = match top.admin_action() {
        Some(super::message::AdminAction::Kick { .. }) => "K kick  ",
        Some(super::message::AdminAction::Replay { .. }) => "R replay  ",
        None => "",
    };
    match &top.overlay {
        Overlay::Filter { .. } => "Enter keep  Esc undo".into(),
        Overlay::Confirm(_) => "y yes  n no".into(),
        Overlay::Help(_) | Overlay::Detail(_) => "↑↓ scroll  q back".into(),
        Overlay::None if matches!(top.server_state, ServerState::Lost(..)) => "q quit".into(),
        Overlay::None if is_notice_visible(top) && top.size.0 < 100 => "? help  q quit".into(),
        Overlay::None if top.size.0 < 60 => format!("{action}? help  q quit"),
        Overlay::None => format!("{action}Enter open  / filter  <> sort  ? help  q quit"),
    }
}
