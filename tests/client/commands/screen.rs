//! A program of a [`Server`](crate::server::Server) in a terminal, and what its screen shows.

use std::process::Command;

use callscope_tests::Pty;
use rustix::process::Signal;

/// A program in a terminal of its own.
pub struct Terminal(Pty);

impl Terminal {
    /// Runs `command` with its environment in a terminal of this many columns and rows.
    pub fn run(command: &Command, columns: u16, rows: u16) -> Self {
        let text = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
        let arguments: Vec<String> = command.get_args().map(text).collect();
        let environment: Vec<(String, String)> =
            command.get_envs().filter_map(|(name, value)| Some((text(name), text(value?)))).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let program = command.get_program().as_ref();
        Self(Pty::start((columns, rows), program, &arguments, &environment, command.get_current_dir().unwrap()))
    }

    /// Sends `keys` to the terminal.
    pub fn press(&mut self, keys: &str) {
        self.0.press(keys);
    }

    /// Waits until the screen shows `text`, and returns the screen.
    pub fn shows(&self, text: &str) -> String {
        self.0.until_text(text);
        self.0.screen()
    }

    /// Waits until the screen no longer shows `text`, and returns the screen.
    pub fn hides(&self, text: &str) -> String {
        self.0.until_no_text(text);
        self.0.screen()
    }

    pub fn signal(&self, signal: Signal) {
        self.0.signal(signal);
    }

    pub fn ended(self) -> Ended {
        let ended = self.0.ended();
        let modes = &ended.modes;
        let is_restored = !modes.alternate && !modes.hidden_cursor && !modes.bracketed_paste && !modes.mouse;
        Ended { code: ended.status.exit_code(), is_restored, screen: ended.screen, bytes: ended.bytes }
    }
}

/// How a program in a terminal ended.
#[derive(Debug)]
pub struct Ended {
    pub code: u32,
    /// Whether the terminal shows its main screen and its cursor, and treats pastes and the mouse as before.
    pub is_restored: bool,
    pub screen: String,
    pub bytes: Vec<u8>,
}
