//! What keys mean.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Leave.
    Quit,
    /// Leave, as interrupted.
    Interrupt,
    /// Stop the process until `fg`.
    Suspend,
    /// Rows up.
    Up,
    /// Rows down.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first row.
    Top,
    /// To the last row, and on from there.
    Bottom,
    /// Follow, or stop following.
    Follow,
    /// Show the keys, or hide them.
    Help,
    /// Hide what lies over the transcript.
    Close,
}

/// The keys, for the help.
pub const HELP: &[(&str, &str)] = &[
    ("↑ ↓  j k", "scroll a row"),
    ("PgUp PgDn", "scroll a page"),
    ("g  Home", "to the start"),
    ("G  End", "to the end, follow"),
    ("f", "follow on and off"),
    ("? Esc", "this help"),
    ("q", "quit"),
];

/// What `key` asks for.
pub fn action(key: KeyEvent) -> Option<Action> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Interrupt),
            KeyCode::Char('z') => Some(Action::Suspend),
            KeyCode::Char('b' | 'u') => Some(Action::PageUp),
            KeyCode::Char('f' | 'd') => Some(Action::PageDown),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Up | KeyCode::Char('k') => Action::Up,
        KeyCode::Down | KeyCode::Char('j') => Action::Down,
        KeyCode::PageUp | KeyCode::Char('b') => Action::PageUp,
        KeyCode::PageDown | KeyCode::Char(' ') => Action::PageDown,
        KeyCode::Home | KeyCode::Char('g') => Action::Top,
        KeyCode::End | KeyCode::Char('G') => Action::Bottom,
        KeyCode::Char('f') => Action::Follow,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => Action::Help,
        KeyCode::Esc => Action::Close,
        _ => return None,
    })
}
