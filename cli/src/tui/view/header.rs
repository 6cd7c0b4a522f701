//! The header: which call, how the connection stands, how far it has come.

use callscope_common::transcript::clock;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::super::app::App;
use super::super::call::{Call, Link};
use super::super::glyph::drawable;
use super::{Palette, ends};

/// Two rows and a rule.
pub fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let palette = Palette::of(app);
    let row = |index: u16| Rect { y: area.y + index, height: 1, ..area };
    let (name, state, style) = match app.calls.as_slice() {
        [only] => (only.identifier.clone(), only.state(app.now), state_style(only, &palette)),
        several => (format!("{} calls", several.len()), together(several), Style::new()),
    };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    ends(buffer, row(0), (&drawable(&name), bold), (&state, style.add_modifier(Modifier::BOLD)));
    ends(buffer, row(1), (&drawable(&app.server), palette.dim()), (&progress(app), Style::new()));
    buffer.set_stringn(area.x, area.y + 2, "─".repeat(area.width.into()), area.width.into(), palette.dim());
}

fn progress(app: &App) -> String {
    match app.calls.as_slice() {
        [only] => {
            let lasted = only.lasted(app.now).map_or(String::new(), |secs| format!("  {}", clock(secs)));
            format!("seq {}{lasted}", only.place.seq)
        }
        several => format!("{} events", several.iter().map(|call| call.place.seq).sum::<i64>()),
    }
}

/// How several connections stand: `2 LIVE 1 ENDED`.
fn together(calls: &[Call]) -> String {
    let words = calls.iter().map(|call| match call.link {
        Link::Connecting => "CONNECTING",
        Link::Retry { .. } => "RETRY",
        Link::Waiting => "WAITING",
        Link::Live => "LIVE",
        Link::Ended => "ENDED",
        Link::Stopped => "STOPPED",
    });
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for word in words {
        match counts.iter_mut().find(|(counted, _)| *counted == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    counts.sort_unstable();
    counts.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(" ")
}

fn state_style(call: &Call, palette: &Palette) -> Style {
    match call.link {
        Link::Live => palette.fg(Color::Green),
        Link::Connecting | Link::Waiting | Link::Retry { .. } => palette.fg(Color::Yellow),
        Link::Stopped => palette.fg(Color::Red),
        Link::Ended => Style::new(),
    }
}
