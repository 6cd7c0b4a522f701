//! The keys of `top`.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key asks for while no text is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Quit,
    /// Move the selection by this many rows: down if positive, up if negative.
    Move(isize),
    /// Move the selection by this many pages.
    Pages(isize),
    /// Select the first row. The selection stays at the top when other rows move there.
    First,
    Last,
    /// Show the tab of this index.
    Tab(usize),
    /// Show the tab this many places to the right, or to the left if negative.
    TabBy(isize),
    /// Sort by the column this many places to the right, or to the left if negative.
    SortBy(isize),
    /// Reverse the order.
    Reverse,
    Filter,
    /// Show the details of the row.
    Open,
    /// Close the connection.
    Kick,
    /// Process the delivery again.
    Replay,
    /// Show the keys, or hide them.
    Help,
    /// Close the overlay, or remove the filter.
    Close,
}

/// The keys and what they do, for the help.
pub(crate) const HELP: &[(&str, &str)] = &[
    ("↑ ↓  j k", "a row up or down"),
    ("PgUp PgDn", "a page"),
    ("g G", "the first, the last row"),
    ("1 … 5  Tab", "another tab"),
    ("Enter", "all there is of a row"),
    ("/", "filter"),
    ("< >", "sort by another column"),
    ("r", "the other way round"),
    ("K", "kick the connection"),
    ("R", "replay the delivery"),
    ("? Esc", "this help; close what is open"),
    ("q", "close what is open; quit"),
];

/// Returns the lines of the help, without the keys of admin actions if `read_only`.
pub(crate) fn help(read_only: bool) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    HELP.iter().filter(move |(key, _)| !(read_only && matches!(*key, "K" | "R")))
}

pub(crate) fn action(key: KeyEvent) -> Option<Action> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('b' | 'u') if control => Action::Pages(-1),
        KeyCode::Char('f' | 'd') if control => Action::Pages(1),
        _ if control => return None,
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Up | KeyCode::Char('k') => Action::Move(-1),
        KeyCode::Down | KeyCode::Char('j') => Action::Move(1),
        KeyCode::PageUp => Action::Pages(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => Action::Pages(1),
        KeyCode::Home | KeyCode::Char('g') => Action::First,
        KeyCode::End | KeyCode::Char('G') => Action::Last,
        KeyCode::Char(digit @ '1'..='5') => Action::Tab(digit as usize - '1' as usize),
        KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => Action::TabBy(1),
        KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => Action::TabBy(-1),
        KeyCode::Char('>' | 's') => Action::SortBy(1),
        KeyCode::Char('<') => Action::SortBy(-1),
        KeyCode::Char('r') => Action::Reverse,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Enter => Action::Open,
        KeyCode::Char('K') => Action::Kick,
        KeyCode::Char('R') => Action::Replay,
        KeyCode::Char('?') | KeyCode::F(1) => Action::Help,
        KeyCode::Esc => Action::Close,
        _ => return None,
    })
}
