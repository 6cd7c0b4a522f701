//! What keys mean in `top`.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key asks for, while nothing is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Leave.
    Quit,
    /// Leave, as interrupted.
    Interrupt,
    /// Stop the process until `fg`.
    Suspend,
    /// So many rows down, or up.
    Move(isize),
    /// So many pages down, or up.
    Pages(isize),
    /// To the first row, and to whichever is first from then on.
    First,
    /// To the last row.
    Last,
    /// The tab at this place.
    Tab(usize),
    /// So many tabs on, or back.
    Turn(isize),
    /// Sort by another column.
    Sort(isize),
    /// Sort the other way round.
    Reverse,
    /// Type a filter.
    Filter,
    /// All there is of the row.
    Open,
    /// Close the connection.
    Kick,
    /// Take the delivery in once more.
    Replay,
    /// Draw every cell again.
    Redraw,
    /// Show the keys, or hide them.
    Help,
    /// Close what is open.
    Close,
}

/// The keys, for the help.
pub const HELP: &[(&str, &str)] = &[
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

/// The help: without the keys that change something, where nothing may be changed.
pub fn help(read_only: bool) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    HELP.iter().filter(move |(key, _)| !(read_only && matches!(*key, "K" | "R")))
}

/// What `key` asks for.
pub fn action(key: KeyEvent) -> Option<Action> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Interrupt),
            KeyCode::Char('z') => Some(Action::Suspend),
            KeyCode::Char('l') => Some(Action::Redraw),
            KeyCode::Char('b' | 'u') => Some(Action::Pages(-1)),
            KeyCode::Char('f' | 'd') => Some(Action::Pages(1)),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Up | KeyCode::Char('k') => Action::Move(-1),
        KeyCode::Down | KeyCode::Char('j') => Action::Move(1),
        KeyCode::PageUp => Action::Pages(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => Action::Pages(1),
        KeyCode::Home | KeyCode::Char('g') => Action::First,
        KeyCode::End | KeyCode::Char('G') => Action::Last,
        KeyCode::Char(digit @ '1'..='5') => Action::Tab(digit as usize - '1' as usize),
        KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => Action::Turn(1),
        KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => Action::Turn(-1),
        KeyCode::Char('>' | 's') => Action::Sort(1),
        KeyCode::Char('<') => Action::Sort(-1),
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
