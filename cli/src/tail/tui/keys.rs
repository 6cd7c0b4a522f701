//! The keys of the full-screen `tail`.

use callscope_common::Speaker;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Leave, or close the overlay.
    Quit,
    /// Go up or down by one entry.
    Step {
        down: bool,
    },
    /// Go up or down by a page.
    Page {
        down: bool,
    },
    /// Go to the beginning, or to the end and follow it.
    End {
        last: bool,
    },
    /// Follow the end, or stop following.
    Follow,
    /// Ask for a search.
    Search,
    /// Go to the next or the previous match.
    Find {
        forward: bool,
    },
    /// Ask for a filter.
    Filter,
    /// Hide a speaker, or show it again.
    Speaker(Speaker),
    /// Wrap long turns, or cut them.
    Wrap,
    /// Show other times.
    Times,
    /// Show the next or the previous tab.
    Tab {
        forward: bool,
    },
    /// Choose a call.
    Picker,
    /// Stop following this call.
    CloseTab,
    /// Show the message as it came.
    Raw,
    /// Copy the text to the clipboard.
    Copy,
    /// Save the transcript to a file.
    Save,
    /// Unfold or fold a tool call.
    Unfold,
    /// Pause or continue a recording.
    Pause,
    Help,
    /// Close the overlay.
    Close,
}

/// The keys and what they do, for the help.
pub(crate) const HELP: &[(&str, &str)] = &[
    ("↑ ↓  j k", "turn by turn"),
    ("PgUp PgDn", "page by page"),
    ("g G", "start; end, and follow"),
    ("f", "follow on and off"),
    ("/  n N", "search; next, previous"),
    ("&", "show only what matches"),
    ("1 2 3", "agent, user, tool on/off"),
    ("Enter", "unfold a tool call"),
    ("w", "wrap on and off"),
    ("t", "times: since start, UTC, off"),
    ("Tab ⇧Tab", "next, previous call"),
    ("c  x", "pick a call; close its tab"),
    ("d", "the turn's JSON"),
    ("y", "copy the turn (OSC 52)"),
    ("s", "save; callscope play shows it"),
    ("Space", "a page; pauses a recording"),
    ("^L  ^Z", "redraw; suspend"),
    ("q", "close this; quit"),
];

pub(crate) fn action(key: KeyEvent) -> Option<Action> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('b' | 'u') if control => Action::Page { down: false },
        KeyCode::Char('f' | 'd') if control => Action::Page { down: true },
        _ if control => return None,
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Up | KeyCode::Char('k') => Action::Step { down: false },
        KeyCode::Down | KeyCode::Char('j') => Action::Step { down: true },
        KeyCode::PageUp | KeyCode::Char('b') => Action::Page { down: false },
        KeyCode::PageDown => Action::Page { down: true },
        KeyCode::Char(' ') => Action::Pause,
        KeyCode::Home | KeyCode::Char('g') => Action::End { last: false },
        KeyCode::End | KeyCode::Char('G') => Action::End { last: true },
        KeyCode::Char('f') => Action::Follow,
        KeyCode::Char('/') => Action::Search,
        KeyCode::Char('n') => Action::Find { forward: true },
        KeyCode::Char('N') => Action::Find { forward: false },
        KeyCode::Char('&') => Action::Filter,
        KeyCode::Char('1') => Action::Speaker(Speaker::Agent),
        KeyCode::Char('2') => Action::Speaker(Speaker::User),
        KeyCode::Char('3') => Action::Speaker(Speaker::Tool),
        KeyCode::Char('w') => Action::Wrap,
        KeyCode::Char('t') => Action::Times,
        KeyCode::Tab => Action::Tab { forward: true },
        KeyCode::BackTab => Action::Tab { forward: false },
        KeyCode::Char('c') => Action::Picker,
        KeyCode::Char('x') => Action::CloseTab,
        KeyCode::Char('d') => Action::Raw,
        KeyCode::Char('y') => Action::Copy,
        KeyCode::Char('s') => Action::Save,
        KeyCode::Enter => Action::Unfold,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => Action::Help,
        KeyCode::Esc => Action::Close,
        _ => return None,
    })
}
