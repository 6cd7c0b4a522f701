//! The last row: a question, something to be told, or what waits below; and the keys.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Modifier;
use unicode_width::UnicodeWidthStr as _;

use super::super::app::{Origin, Overlay, PromptKind, TailApp};
use super::super::call_tab::CallTab;
use super::super::entry::Tone;
use super::tone;
use crate::term::drawable::drawable;
use crate::term::text_input::TextInput;
use crate::term::{put_ends, put_text};

/// Draws the row; gives the cursor's place, where something is asked.
pub fn draw(app: &TailApp, row: Rect, buffer: &mut Buffer) -> Option<Position> {
    if let Some((ask, line)) = &app.prompt {
        return Some(prompt(*ask, line, row, buffer));
    }
    let palette = app.palette;
    let (left, style) = match (&app.notice, &app.overlay, app.tab()) {
        (Some((notice, text)), ..) => (text.clone(), tone(palette, *notice).add_modifier(Modifier::BOLD)),
        (None, Overlay::Picker(..), _) => ("choose a call".into(), palette.dim()),
        (None, Overlay::Raw(raw), _) => (format!("row {} of {}", raw.top + 1, raw.rows().len()), palette.dim()),
        (None, Overlay::Help(_), _) | (None, _, None) => (String::new(), palette.dim()),
        (None, Overlay::None, Some(tab)) => {
            let (text, tone_of) = stand(tab);
            (text, if tone_of == Tone::Plain { palette.dim() } else { palette.warn().add_modifier(Modifier::BOLD) })
        }
    };
    put_ends(buffer, row, (&drawable(&left), style), (keys(app, row.width < 60), palette.dim()));
    None
}

/// Whether the end is followed, what waits below, what was found and what is left out.
fn stand(tab: &CallTab) -> (String, Tone) {
    let transcript = &tab.transcript;
    let mut parts = Vec::new();
    let mut tone = Tone::Plain;
    match (transcript.follows(), transcript.new_below(), transcript.below()) {
        (true, ..) => parts.push(if tab.is_over() { "end".to_owned() } else { "following".to_owned() }),
        (false, 0, 0) => parts.push("PAUSED".into()),
        (false, 0, below) => parts.push(format!("PAUSED  {below} below")),
        (false, new, _) => {
            parts.push(format!("PAUSED  {new} new below"));
            tone = Tone::Warn;
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
    (parts.join("  "), tone)
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

/// A line being typed, from a column on, with its cursor in sight; gives the cursor's place.
pub fn typed(line: &TextInput, column: usize, row: Rect, buffer: &mut Buffer) -> Position {
    let room = usize::from(row.width).saturating_sub(column + 1);
    let before = drawable(line.before());
    let mut skipped = 0;
    let mut shown = before.width();
    // As much of the beginning is left out as puts the cursor on the screen.
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
