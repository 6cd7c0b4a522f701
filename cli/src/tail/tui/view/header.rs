//! The header: the call, the state of its connection, its progress, and the tabs if there are several.

use callscope_common::transcript::clock;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use unicode_width::UnicodeWidthStr as _;

use super::super::app::{Origin, TailApp};
use super::super::call_tab::CallTab;
use crate::render::Tint;
use crate::render::cut;
use crate::term::drawable::drawable;
use crate::term::{put_ends, put_text};

/// Width of the longest name in the row of tabs.
const NAME: usize = 24;

/// Draws two rows, the tabs and a rule.
pub(crate) fn draw(app: &TailApp, area: Rect, buffer: &mut Buffer) {
    let palette = app.palette;
    let row = |index: u16| Rect { y: area.y + index, height: 1, ..area };
    let (name, (state, state_tint)) = match app.tab() {
        Some(tab) => (tab.identifier.clone(), app.state(tab)),
        None => ("no call yet".into(), (String::new(), Tint::Plain)),
    };
    let state_style = palette.tint(state_tint).add_modifier(Modifier::BOLD);
    put_ends(buffer, row(0), (&drawable(&name), palette.strong()), (&state, state_style));
    put_ends(buffer, row(1), (&drawable(&origin(app)), palette.dim()), (&progress(app), Style::new()));
    if app.tabs.len() > 1 {
        tabs(app, row(2), buffer);
    }
    let rule = Rect { y: area.bottom() - 1, height: 1, ..area };
    put_text(buffer, rule, 0, &"─".repeat(area.width.into()), palette.dim());
}

fn origin(app: &TailApp) -> String {
    let place = match &app.origin {
        Origin::Server(address) => address.clone(),
        Origin::Recording { file, .. } => format!("recording {file}"),
    };
    match app.tab().and_then(|tab| tab.agent.as_deref()) {
        Some(agent) => format!("{place}  {agent}"),
        None => place,
    }
}

fn progress(app: &TailApp) -> String {
    let Some(tab) = app.tab() else { return String::new() };
    let lasted = tab.lasted(app.now).map_or(String::new(), |secs| format!("  {}", clock(secs)));
    format!("seq {}{lasted}", tab.progress.place.seq)
}

/// Draws as many tabs as fit around the one that is shown.
fn tabs(app: &TailApp, row: Rect, buffer: &mut Buffer) {
    let labels: Vec<String> = app.tabs.iter().enumerate().map(|(place, tab)| label(app, place, tab)).collect();
    let width = |range: &[String]| range.iter().map(|label| label.width() + 1).sum::<usize>();
    let mut first = 0;
    while first < app.current && width(&labels[first..=app.current]) > usize::from(row.width) {
        first += 1;
    }
    let mut column = 0;
    for (place, label) in labels.iter().enumerate().skip(first) {
        let over = app.tabs[place].is_over();
        let style = match place == app.current {
            true => app.palette.selected(),
            false if over => app.palette.dim(),
            false => Style::new(),
        };
        put_text(buffer, row, column, label, style);
        column += label.width() + 1;
    }
}

/// Returns the label of a tab: the end of its name, which tells calls apart, its state and the number of new entries.
fn label(app: &TailApp, place: usize, tab: &CallTab) -> String {
    let name = drawable(&tab.identifier).into_owned();
    let skip = name.chars().count().saturating_sub(NAME);
    let name: String =
        if skip == 0 { name } else { std::iter::once('…').chain(name.chars().skip(skip + 1)).collect() };
    let state = match app.state(tab).0 {
        state if state.starts_with("LIVE") || state.starts_with("PLAYING") => String::new(),
        state => format!(" {}", state.split(' ').next().unwrap_or_default().to_lowercase()),
    };
    let new = tab.transcript.new_below();
    let new = if place != app.current && new > 0 { format!(" +{new}") } else { String::new() };
    cut(&format!(" {name}{state}{new} "), Some(NAME + 16)).into_owned()
}
