//! Draws a [`TailApp`] without changing it.

mod footer;
mod header;
mod overlay;
mod picker;
mod transcript;

use ratatui::Frame;
use ratatui::layout::Rect;

use super::app::{Overlay, TailApp};
use crate::term::draw_if_too_small;

/// The smallest screen that the view is drawn on.
pub(crate) const MIN_SIZE: (u16, u16) = (40, 12);

pub(crate) fn draw(app: &TailApp, frame: &mut Frame<'_>) {
    let area = frame.area();
    if draw_if_too_small(area, MIN_SIZE, frame.buffer_mut()) {
        return;
    }
    let buffer = frame.buffer_mut();
    let top = app.header_rows();
    header::draw(app, Rect { height: top, ..area }, buffer);
    let body = Rect { y: area.y + top, height: area.height.saturating_sub(top + 1), ..area };
    let last = Rect { y: area.bottom() - 1, height: 1, ..area };
    let mut cursor = None;
    match &app.overlay {
        Overlay::None => transcript::draw(app, body, buffer),
        Overlay::Help(top) => overlay::help(app, *top, body, buffer),
        Overlay::Raw(raw) => overlay::raw(raw, body, buffer),
        Overlay::Picker(picker, _) => cursor = Some(picker::draw(app, picker, body, buffer)),
    }
    let prompt_cursor = footer::draw(app, last, buffer);
    if let Some(position) = prompt_cursor.or(cursor) {
        frame.set_cursor_position(position);
    }
}
