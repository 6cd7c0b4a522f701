//! Keys pressed on the terminal.

use std::io::{self, IsTerminal as _, Read as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use tokio::sync::mpsc;

/// Reads keys from the terminal on stdin, without echo. Dropping it restores the terminal.
pub(crate) struct Keys {
    pressed: mpsc::Receiver<u8>,
    before: Termios,
}

impl Keys {
    /// Starts to read keys, if stdin is a terminal and this program is in its foreground.
    pub(crate) fn of_terminal() -> Option<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        // A program in the background that changes a terminal's modes is stopped.
        if tcgetpgrp(&stdin).ok()? != rustix::process::getpgrp() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut modes = before.clone();
        // Keys are read at once and without echo. Ctrl-C still sends a signal, because ISIG stays set.
        modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &modes).ok()?;
        let (press, pressed) = mpsc::channel(16);
        std::thread::spawn(move || {
            for key in io::stdin().lock().bytes() {
                let Ok(key) = key else { return };
                if press.blocking_send(key).is_err() {
                    return;
                }
            }
        });
        Some(Self { pressed, before })
    }

    /// Resolves when `r` is pressed. Never resolves if no keys are read.
    pub(crate) async fn resend_pressed(keys: &mut Option<Self>) {
        let Some(keys) = keys else { return std::future::pending().await };
        loop {
            match keys.pressed.recv().await {
                Some(b'r' | b'R') => return,
                Some(_) => {}
                None => return std::future::pending().await,
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // An error means that the terminal is gone, so there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
