//! Messages to the person: everything that is not data goes to stderr.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use callscope_common::text;

use crate::exit::brief;

/// Whether nothing is said by [`caution`] any more.
static MUTE: AtomicBool = AtomicBool::new(false);

/// Warns of something about this machine, once in the life of the process.
pub(crate) fn caution(message: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let is_new = SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(message.to_owned());
    if is_new && !MUTE.load(Ordering::Relaxed) {
        let _ = writeln!(io::stderr().lock(), "warning: {}", text::one_line(message));
    }
}

/// Ends all warnings of [`caution`]: for a shell's completion, whose prompt they would break.
pub(crate) fn mute() {
    MUTE.store(true, Ordering::Relaxed);
}

/// Speaks on stderr, as loud as `-q` and `-v` ask for. A stderr that cannot be written to is no reason to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Console {
    level: Level,
    /// Whether stderr is a terminal on which a line may be drawn over.
    live: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Silent,
    Quiet,
    Normal,
    Verbose,
}

impl Console {
    /// As the flags ask for.
    pub(crate) fn new(quiet: bool, verbose: bool, accessible: bool) -> Self {
        let level = match (quiet, verbose) {
            (true, _) => Level::Quiet,
            (false, true) => Level::Verbose,
            (false, false) => Level::Normal,
        };
        Self { level, live: !accessible && !quiet && io::stderr().is_terminal() }
    }

    /// Says nothing at all: for work behind a full-screen view.
    pub(crate) fn silent() -> Self {
        Self { level: Level::Silent, live: false }
    }

    /// The same, but nothing is drawn over.
    #[cfg(feature = "demo")]
    pub(crate) fn lasting(self) -> Self {
        Self { live: false, ..self }
    }

    /// What a person wants to know; not under `-q`.
    pub(crate) fn say(self, message: impl AsRef<str>) {
        self.write(Level::Normal, "", message.as_ref());
    }

    /// Something is not as it should be.
    pub(crate) fn warn(self, message: impl AsRef<str>) {
        self.write(Level::Quiet, "warning: ", message.as_ref());
    }

    /// What belongs to the warning before it.
    pub(crate) fn bare(self, message: impl AsRef<str>) {
        self.write(Level::Quiet, "", message.as_ref());
    }

    /// Only under `-v`.
    pub(crate) fn debug(self, message: impl AsRef<str>) {
        self.write(Level::Verbose, "", message.as_ref());
    }

    /// Draws over the current line; only where [`Console::live`], and not from the background: there the terminal's
    /// line is another program's. An empty message clears it.
    pub(crate) fn progress(self, message: &str) {
        if self.live && is_in_foreground() {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[K{}", text::one_line(brief(message)));
            let _ = stderr.flush();
        }
    }

    fn write(self, needs: Level, prefix: &str, message: &str) {
        if self.level >= needs {
            let clear = if self.live && is_in_foreground() { "\r\x1b[K" } else { "" };
            let _ = writeln!(io::stderr().lock(), "{clear}{prefix}{}", text::one_line(brief(message)));
        }
    }
}

/// Whether stderr's terminal is in the hands of this process's group, as far as that can be told.
fn is_in_foreground() -> bool {
    // A terminal that does not control this process has no foreground group to ask for.
    rustix::termios::tcgetpgrp(io::stderr()).map_or(true, |group| group == rustix::process::getpgrp())
}
