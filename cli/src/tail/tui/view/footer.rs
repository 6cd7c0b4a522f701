//! The last row: a prompt, a notice or the state of the transcript, and the keys.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Modifier;
use unicode_width::UnicodeWidthStr as _;

use super::super::app::{Origin, Overlay, PromptKind, TailApp};
use super::super::call_tab::CallTab;
use crate::render::Tint;
use crate::term::drawable::drawable;
use crate::term::text_input::TextInput;
use crate::term::{put_ends, put_text};

/// Draws the row. Returns the position of the cursor if there is a prompt.
pub(crate) fn draw(app: &TailApp, row: Rect, buffer: &mut Buffer) -> Option<Position> {
    if let Some((ask, line)) = &app.prompt {
        return Some(prompt(*ask, line, row, buffer));
    }
    let palette = app.palette;
    let (left, style) = match (&app.notice, &app.overlay, app.tab()) {
        (Some((notice, text)), ..) => (text.clone(), palette.tint(*notice).add_modifier(Modifier::BOLD)),
        (None, Overlay::Picker(..), _) => ("choose a call".into(), palette.dim()),
        (None, Overlay::Raw(raw), _) => (format!("row {} of {}", raw.top + 1, raw.rows().len()), palette.dim()),
        (None, Overlay::Help(_), _) | (None, _, None) => (String::new(), palette.dim()),
        (None, Overlay::None, Some(tab)) => {
            let (text, tint_of) = stand(tab);
            (text, if tint_of == Tint::Plain { palette.dim() } else { palette.warn().add_modifier(Modifier::BOLD) })
        }
    };
    put_ends(buffer, row, (&drawable(&left), style), (keys(app, row.width < 60), palette.dim()));
    None
}

/// Describes whether the end is followed, how much is below, the search and the filters.
fn stand(tab: &CallTab) -> (String, Tint) {
    let transcript = &tab.transcript;
    let mut parts = Vec::new();
    let mut tint = Tint::Plain;
    match (transcript.follows(), transcript.new_below(), transcript.below()) {
        (true, ..) => parts.push(if tab.is_over() { "end".to_owned() } else { "following".to_owned() }),
        (false, 0, 0) => parts.push("PAUSED".into()),
        (false, 0, below) => parts.push(format!("PAUSED  {below} below")),
        (false, new, _) => {
            parts.push(format!("PAUSED  {new} new below"));
            tint = Tint::Warning;
        }
    }
    if transcript.search().is_some() {
        let (found, place) = transcript.found();
        parts.push(place.map_or(format!("{found} found"), |place| format!("{} of {found} found", place + 1)));
    }
    if tab.reload.scans > 0 {
        parts.push("searching".into());
    }
    let (filter, hidden) = transcript.filter();
    parts.extend(filter.map(|filter| format!("&{}", filter.text())));
    parts.extend(hidden.iter().map(|speaker| format!("no {speaker}")));
    (parts.join("  "), tint)
}

fn keys(app: &TailApp, narrow: bool) -> &'static str {
    match (&app.overlay, &app.origin, narrow) {
        (Overlay::Picker(..), ..) if app.tabs.is_empty() => "Enter open  q quit",
        (Overlay::Picker(..), ..) => "Enter open  Esc back",
        (Overlay::Help(_) | Overlay::Raw(_), ..) => "↑↓ scroll  q back",
        (Overlay::None, _, true) => "? help  q quit",
        (Overlay::None, Origin::Recording { .. }, false) => "Space pause  / search  ? help  q quit",
        (Overlay::None, Origin::Server(_), false) => "↑↓ scroll  / search  ? help  q quit",
    }
}

fn prompt(ask: PromptKind, line: &TextInput, row: Rect, buffer: &mut Buffer) -> Position {
    let label = match ask {
        PromptKind::Search => "/",
        PromptKind::Filter => "show only: ",
        PromptKind::Save => "save as: ",
    };
    put_text(buffer, row, 0, label, ratatui::style::Style::new().add_modifier(Modifier::BOLD));
    typed(line, label.width(), row, buffer)
}

/// Draws a text input from a column on, scrolled so that the cursor is in sight. Returns the position of the cursor.
pub(crate) fn typed(line: &TextInput, column: usize, row: Rect, buffer: &mut Buffer) -> Position {
    let room = usize::from(row.width).saturating_sub(column + 1);
    let before = drawable(line.before());
    let mut skipped = 0;
    let mut shown = before.width();
    // The beginning is cut until the cursor fits on the screen.
    for c in before.chars() {
        if shown <= room {
            break;
        }
        shown -= unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
        skipped += c.len_utf8();
    }
    let whole = drawable(line.text());
    put_text(buffer, row, column, whole.get(skipped..).unwrap_or_default(), ratatui::style::Style::new());
    let x = u16::try_from(column + shown).unwrap_or(u16::MAX).min(row.width.saturating_sub(1));
    Position { x: row.x + x, y: row.y }
}
