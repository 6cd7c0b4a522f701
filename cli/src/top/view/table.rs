//! The list of a tab: only the rows on the screen are drawn.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use unicode_width::UnicodeWidthStr as _;

use super::super::rows::{Column, TableRow, columns};
use super::super::state::TopApp;
use super::super::tab::Tab;
use super::{palette, put};

/// Blanks between two columns.
const COLUMN_GAP: usize = 2;
/// No column grows beyond this width, however long its cells are. A longer cell is cut.
const MAX_COLUMN_WIDTH: usize = 60;
/// Columns of this rank or a higher one are hidden before the name of a call is cut.
const MIN_OPTIONAL_RANK: u8 = 3;

/// Draws the names of the columns and the rows.
pub(crate) fn draw(top: &TopApp, area: Rect, buffer: &mut Buffer) {
    let columns = columns(top.tab);
    let rows = top.rows();
    let placed = place(columns, &rows, area.width.into());
    let page = top.tab_state();
    let head = Rect { height: 1, ..area };
    for &(index, x, width) in &placed {
        let is_sorted = index == page.sort;
        let arrow = if !is_sorted {
            ""
        } else if page.is_reversed {
            "▴"
        } else {
            "▾"
        };
        let style = if is_sorted { palette(top).strong() } else { palette(top).dim() };
        put(buffer, head, x, width + 1, &format!("{}{arrow}", columns[index].title), style);
    }
    let body = Rect { y: area.y + 1, height: area.height - 1, ..area };
    if rows.is_empty() {
        return put(buffer, Rect { height: 1, ..body }, 0, area.width.into(), empty(top), palette(top).dim());
    }
    let selected = top.selection(&rows);
    for ((place, row), y) in rows.iter().enumerate().skip(page.offset).zip(body.y..body.bottom()) {
        let line = Rect { y, height: 1, ..area };
        let is_selected = place == selected;
        let base = if is_selected { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        if is_selected {
            buffer.set_style(line, base);
        }
        for &(index, x, width) in &placed {
            let cell = &row.cells[index];
            put(buffer, line, x, width, &cell.text, palette(top).tint(cell.tint).patch(base));
        }
    }
}

/// Returns why the list is empty.
fn empty(top: &TopApp) -> &'static str {
    match (&top.tab_state().list, top.tab) {
        (None, _) => "asking the server",
        (Some(_), _) if !top.tab_state().filter.is_empty() => "nothing fits the filter; Esc removes it",
        (Some(_), Tab::Calls) => "no calls yet",
        (Some(_), Tab::Connections) => "no one is connected",
        (Some(_), Tab::Subscriptions) => "no one follows a call",
        (Some(_), Tab::Deliveries) => "nothing came in yet",
        (Some(_), Tab::Errors) => "nothing is wrong",
    }
}

/// Returns the index, the x position and the width of each column that fits. Spare width goes to the growing columns
/// whose cells are wider than the minimum, lowest rank first.
fn place(columns: &[Column], rows: &[TableRow], width: usize) -> Vec<(usize, usize, usize)> {
    let min_width = |shown: &[usize]| {
        shown.iter().map(|&index| columns[index].width).sum::<usize>() + COLUMN_GAP * shown.len().saturating_sub(1)
    };
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    while min_width(&shown) > width && shown.len() > 1 {
        let Some(last) = shown.iter().max_by_key(|&&index| columns[index].rank).copied() else { break };
        shown.retain(|&index| index != last);
    }
    let wanted = |index: usize| {
        let widest = rows.iter().map(|row| row.cells[index].text.width()).max().unwrap_or(0);
        widest.min(MAX_COLUMN_WIDTH).max(columns[index].width)
    };
    // A call name that is cut is useless, so optional columns are hidden first.
    let cuts_call_name = |shown: &[usize]| {
        let first = shown.iter().filter(|&&index| columns[index].grows && columns[index].rank == 0);
        let more: usize = first.map(|&index| wanted(index) - columns[index].width).sum();
        min_width(shown) + more > width
    };
    while cuts_call_name(&shown) {
        let optional = shown
            .iter()
            .filter(|&&index| columns[index].rank >= MIN_OPTIONAL_RANK)
            .max_by_key(|&&index| columns[index].rank);
        let Some(last) = optional.copied() else { break };
        shown.retain(|&index| index != last);
    }
    let mut widths: Vec<usize> = columns.iter().map(|column| column.width).collect();
    let mut spare = width.saturating_sub(min_width(&shown));
    let mut by_rank: Vec<usize> = shown.iter().copied().filter(|&index| columns[index].grows).collect();
    by_rank.sort_by_key(|&index| columns[index].rank);
    for index in by_rank {
        let more = (wanted(index) - columns[index].width).min(spare);
        widths[index] += more;
        spare -= more;
    }
    let mut x = 0;
    let mut placed = Vec::with_capacity(shown.len());
    for index in shown {
        placed.push((index, x, widths[index]));
        x += widths[index] + COLUMN_GAP;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_and_the_highest_ranks_are_hidden_first() {
        for tab in Tab::all() {
            let columns = columns(*tab);
            for width in 40..200 {
                let placed = place(columns, &[], width);
                let end = placed.last().map_or(0, |(_, x, wide)| x + wide);
                assert!(end <= width, "{tab:?} at {width}");
                let hidden = (0..columns.len()).filter(|index| placed.iter().all(|(shown, ..)| shown != index));
                let shown = placed.iter().map(|(index, ..)| columns[*index].rank).max().unwrap_or(0);
                assert!(hidden.map(|index| columns[index].rank).all(|rank| rank >= shown), "{tab:?} at {width}");
            }
        }
    }
}
