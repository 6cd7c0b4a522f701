//! Pieces that every full-screen view is drawn with.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use unicode_width::UnicodeWidthStr as _;

/// Shows the size that is needed on a screen smaller than `smallest`. Returns whether the screen is too small.
pub(crate) fn draw_if_too_small(area: Rect, smallest: (u16, u16), buffer: &mut Buffer) -> bool {
    if area.width >= smallest.0 && area.height >= smallest.1 {
        return false;
    }
    let lines = [format!("too small: {}x{}", area.width, area.height), format!("needs {}x{}", smallest.0, smallest.1)];
    for (row, line) in (area.y..area.bottom()).zip(lines) {
        put_text(buffer, Rect { y: row, height: 1, ..area }, 0, &line, Style::new());
    }
    true
}

/// Puts `left` and `right` at the ends of a row. `right` comes first where there is not enough room.
pub(crate) fn put_ends(
    buffer: &mut Buffer,
    row: Rect,
    (left, left_style): (&str, Style),
    (right, right_style): (&str, Style),
) {
    let width = usize::from(row.width);
    let right = crate::render::cut(right, Some(width));
    let taken = right.width();
    let room = width.saturating_sub(if taken > 0 { taken + 1 } else { 0 });
    put_text(buffer, row, 0, &crate::render::cut(left, Some(room)), left_style);
    put_text(buffer, row, width - taken, &right, right_style);
}

/// Puts `text` at a column of `row` and cuts it at the end of the row.
pub(crate) fn put_text(buffer: &mut Buffer, row: Rect, column: usize, text: &str, style: Style) {
    let room = usize::from(row.width).saturating_sub(column);
    if let Ok(column) = u16::try_from(column)
        && room > 0
    {
        buffer.set_stringn(row.x.saturating_add(column), row.y, text, room, style);
    }
}
