//! What keys mean over a transcript.

use callscope_common::Speaker;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Leave, or close what lies over the transcript.
    Quit,
    /// Leave, as interrupted.
    Interrupt,
    /// Stop the process until `fg`.
    Suspend,
    /// Draw every cell again.
    Redraw,
    /// Up or down by one.
    Step {
        /// Which way.
        down: bool,
    },
    /// Up or down by a page.
    Page {
        /// Which way.
        down: bool,
    },
    /// To the beginning, or to the end and on from there.
    End {
        /// Which end.
        last: bool,
    },
    /// Follow, or stop following.
    Follow,
    /// Ask what to search for.
    Search,
    /// To the next match, or the one before.
    Find {
        /// Which way.
        forward: bool,
    },
    /// Ask what to filter by.
    Filter,
    /// Leave a speaker out, or let it in.
    Speaker(Speaker),
    /// Wrap long turns, or cut them.
    Wrap,
    /// Other times.
    Times,
    /// The next tab, or the one before.
    Tab {
        /// Which way.
        forward: bool,
    },
    /// Choose a call.
    Picker,
    /// No longer follow this call.
    CloseTab,
    /// The message as it came.
    Raw,
    /// The text into the clipboard.
    Copy,
    /// Keep the transcript in a file.
    Save,
    /// Open or fold a tool call.
    Unfold,
    /// Hold a recording, or play on.
    Pause,
    /// Show the keys.
    Help,
    /// Close what lies over the transcript.
    Close,
}

/// The keys, for the help.
pub const HELP: &[(&str, &str)] = &[
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
    ("^L  ^Z", "draw anew; suspend"),
    ("q", "close this; quit"),
];

/// What `key` asks for.
pub fn action(key: KeyEvent) -> Option<Action> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Interrupt),
            KeyCode::Char('z') => Some(Action::Suspend),
            KeyCode::Char('l') => Some(Action::Redraw),
            KeyCode::Char('b' | 'u') => Some(Action::Page { down: false }),
            KeyCode::Char('f' | 'd') => Some(Action::Page { down: true }),
            _ => None,
        };
    }
    Some(match key.code {
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
