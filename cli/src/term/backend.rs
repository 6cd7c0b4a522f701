//! Writes cells to a terminal that may count the width of some characters differently from this program.
//!
//! Terminals do not agree on the width of vowel signs, joined letters, half-width marks and emoji sequences. Behind
//! such a cluster, the cursor of the terminal may not be where this program counts it, and writing only the changed
//! cells would leave old text on the screen. A row that has, or had, such a cluster is therefore always written whole:
//! the row is erased, and the cursor is moved to its place behind each such cluster. What is on the screen then depends
//! only on the text of the row.

use std::io::{self, Write};

use crossterm::cursor::MoveTo;
use crossterm::queue;
use crossterm::terminal::{Clear, ClearType as Erase};
use ratatui::backend::{Backend, ClearType, CrosstermBackend, WindowSize};
use ratatui::buffer::{Cell, CellWidth as _};
use ratatui::layout::{Position, Size};

/// The backend of a terminal behind `W`. It remembers what is on the screen.
pub(crate) struct RowBackend<W: Write> {
    inner: CrosstermBackend<W>,
    size: fn() -> (u16, u16),
    width: u16,
    rows: Vec<RowState>,
}

#[derive(Clone)]
struct RowState {
    cells: Vec<Cell>,
    /// Whether the terminal may count a cell differently.
    ambiguous: bool,
    changed: bool,
}

impl<W: Write> RowBackend<W> {
    /// Starts with an empty screen of the size that `size` returns.
    pub(crate) fn new(writer: W, size: fn() -> (u16, u16)) -> Self {
        let mut rows = Self { inner: CrosstermBackend::new(writer), size, width: 0, rows: Vec::new() };
        rows.forget();
        rows
    }

    fn forget(&mut self) {
        let (width, height) = (self.size)();
        self.width = width;
        let row = RowState { cells: vec![Cell::default(); width.into()], ambiguous: false, changed: false };
        self.rows = vec![row; height.into()];
    }

    /// Takes a changed cell in. Returns whether the cell is on the screen.
    fn put(&mut self, x: u16, y: u16, cell: &Cell) -> bool {
        let Some(row) = self.rows.get_mut(usize::from(y)) else { return false };
        let Some(place) = row.cells.get_mut(usize::from(x)) else { return false };
        place.clone_from(cell);
        // The cells that a wide character covers are empty, and ratatui does not report them.
        let x = usize::from(x);
        let end = (x + usize::from(cell.symbol().cell_width())).min(row.cells.len());
        row.cells[x + 1..end.max(x + 1)].fill(Cell::default());
        row.changed = true;
        true
    }

    fn write_row(&mut self, y: u16) -> io::Result<()> {
        queue!(self.inner, MoveTo(0, y), Clear(Erase::UntilNewLine))?;
        let cells = &self.rows[usize::from(y)].cells;
        let blank = Cell::default();
        let mut run: Vec<(u16, u16, &Cell)> = Vec::new();
        let mut x = 0;
        while x < self.width {
            let cell = &cells[usize::from(x)];
            if *cell != blank {
                run.push((x, y, cell));
            }
            // The cursor is moved to the beginning of each run.
            if *cell == blank || !is_plain(cell.symbol()) {
                self.inner.draw(run.drain(..))?;
            }
            x = x.saturating_add(cell.symbol().cell_width().max(1));
        }
        self.inner.draw(run.drain(..))
    }
}

/// Returns whether all terminals agree on the width of a cell.
fn is_plain(symbol: &str) -> bool {
    let mut chars = symbol.chars();
    matches!((chars.next(), chars.next()), (Some(c), None) if has_certain_width(c))
}

/// Returns whether all terminals agree on the width of a character, as they do for scripts without marks and joining.
pub(crate) fn has_certain_width(c: char) -> bool {
    matches!(c,
        ' '..='~'
        | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{2ff}'
        | '\u{370}'..='\u{482}' | '\u{48a}'..='\u{52f}' | '\u{531}'..='\u{556}' | '\u{561}'..='\u{587}'
        | '\u{1e00}'..='\u{1fff}'
        | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{20a0}'..='\u{20bf}' | '\u{2190}'..='\u{21ff}'
        | '\u{2500}'..='\u{259f}'
        | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{fffd}')
}

impl<W: Write> Backend for RowBackend<W> {
    type Error = io::Error;

    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, content: I) -> io::Result<()> {
        let mut plain = Vec::new();
        for (x, y, cell) in content {
            if self.put(x, y, cell) {
                plain.push((x, y, cell));
            }
        }
        let mut whole = Vec::new();
        for (y, row) in (0..).zip(&mut self.rows) {
            if std::mem::take(&mut row.changed) {
                let ambiguous = row.cells.iter().any(|cell| !is_plain(cell.symbol()));
                if std::mem::replace(&mut row.ambiguous, ambiguous) || ambiguous {
                    whole.push(y);
                }
            }
        }
        plain.retain(|(_, y, _)| whole.binary_search(y).is_err());
        self.inner.draw(plain.into_iter())?;
        whole.into_iter().try_for_each(|y| self.write_row(y))
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.inner.hide_cursor()
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.inner.show_cursor()
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        self.inner.get_cursor_position()
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.inner.set_cursor_position(position)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.clear_region(ClearType::All)
    }

    fn clear_region(&mut self, clear_type: ClearType) -> io::Result<()> {
        // The views fill the screen, so the whole screen is the only region that is ever cleared.
        self.forget();
        self.inner.clear_region(clear_type)
    }

    fn size(&self) -> io::Result<Size> {
        let (width, height) = (self.size)();
        Ok(Size { width, height })
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        let columns_rows = self.size()?;
        Ok(WindowSize { columns_rows, pixels: Size::ZERO })
    }

    fn flush(&mut self) -> io::Result<()> {
        Backend::flush(&mut self.inner)
    }
}

#[cfg(test)]
#[path = "backend_tests.rs"]
mod tests;
