//! Keys pressed on the terminal.

use std::io::{self, IsTerminal as _, Read as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use tokio::sync::mpsc;

/// The keys of the terminal on stdin, which does not echo them meanwhile.
pub(crate) struct Keys {
    pressed: mpsc::Receiver<u8>,
    before: Termios,
}

impl Keys {
    /// Takes the keys over, where stdin is a terminal and this program is in its foreground.
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
        // Keys come as they are pressed, and unseen; Ctrl-C is still a signal, and lines still begin at the left.
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

    /// Resolves when the last delivery is to be sent again; never where there are no keys.
    pub(crate) async fn again(keys: &mut Option<Self>) {
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
        // A terminal that is gone needs nothing back.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
