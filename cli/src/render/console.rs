//! Messages to the user on stderr; stdout is for data.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use callscope_common::text;

use crate::exit::brief;

/// Whether [`warn_once`] prints nothing.
static IS_MUTED: AtomicBool = AtomicBool::new(false);

/// Prints a warning about this machine, each text once per process.
pub(crate) fn warn_once(message: &str) {
    static PRINTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let is_new = PRINTED.lock().unwrap_or_else(PoisonError::into_inner).insert(message.to_owned());
    if is_new && !IS_MUTED.load(Ordering::Relaxed) {
        let _ = writeln!(io::stderr().lock(), "warning: {}", text::one_line(message));
    }
}

/// Suppresses [`warn_once`] during a shell's completion, whose prompt it would break.
pub(crate) fn mute() {
    IS_MUTED.store(true, Ordering::Relaxed);
}

/// Prints messages on stderr as `-q` and `-v` say. Errors of stderr are ignored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Console {
    level: Level,
    /// Whether stderr is a terminal whose current line may be overwritten.
    may_redraw: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Silent,
    Quiet,
    Normal,
    Verbose,
}

impl Console {
    pub(crate) fn new(quiet: bool, verbose: bool, accessible: bool) -> Self {
        let level = match (quiet, verbose) {
            (true, _) => Level::Quiet,
            (false, true) => Level::Verbose,
            (false, false) => Level::Normal,
        };
        Self { level, may_redraw: !accessible && !quiet && io::stderr().is_terminal() }
    }

    /// Prints nothing: for work behind a full-screen view.
    pub(crate) fn silent() -> Self {
        Self { level: Level::Silent, may_redraw: false }
    }

    /// Never overwrites a line: the lines of the view must stay.
    #[cfg(feature = "demo")]
    pub(crate) fn without_redraw(self) -> Self {
        Self { may_redraw: false, ..self }
    }

    /// Prints information, except with `-q`.
    pub(crate) fn say(self, message: impl AsRef<str>) {
        self.write(Level::Normal, "", message.as_ref());
    }

    /// Prints a warning, also with `-q`.
    pub(crate) fn warn(self, message: impl AsRef<str>) {
        self.write(Level::Quiet, "warning: ", message.as_ref());
    }

    /// Prints a further line of the warning before it.
    pub(crate) fn bare(self, message: impl AsRef<str>) {
        self.write(Level::Quiet, "", message.as_ref());
    }

    /// Prints details, only with `-v`.
    pub(crate) fn debug(self, message: impl AsRef<str>) {
        self.write(Level::Verbose, "", message.as_ref());
    }

    /// Overwrites the current line; an empty message clears it. It does nothing unless [`Console::may_redraw`], and
    /// nothing in the background, where the line belongs to another program.
    pub(crate) fn progress(self, message: &str) {
        if self.may_redraw && is_in_foreground() {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[K{}", text::one_line(brief(message)));
            let _ = stderr.flush();
        }
    }

    fn write(self, needs: Level, prefix: &str, message: &str) {
        if self.level >= needs {
            let clear = if self.may_redraw && is_in_foreground() { "\r\x1b[K" } else { "" };
            let _ = writeln!(io::stderr().lock(), "{clear}{prefix}{}", text::one_line(brief(message)));
        }
    }
}

/// Returns whether this process is in the foreground of stderr's terminal; true if that is unknown.
fn is_in_foreground() -> bool {
    // A terminal that does not control this process has no foreground group to ask for.
    rustix::termios::tcgetpgrp(io::stderr()).map_or(true, |group| group == rustix::process::getpgrp())
}
