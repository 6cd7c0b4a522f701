//! Exit codes, and the failures that lead to them.

use std::io::{self, Write as _};
use std::process::ExitCode;

use callscope_common::text;

/// How the program ends, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Success, also if the reader of stdout closed its pipe.
    Ok = 0,
    /// Any error without a code of its own.
    Error = 1,
    /// The command line or a setting makes no sense.
    Usage = 2,
    /// No such call, connection, file or sample.
    NotFound = 3,
    /// The token is missing, invalid, or lacks the right.
    NotAllowed = 4,
    /// No server answers.
    Unreachable = 5,
    /// The stream broke and is not reconnected.
    StreamLost = 6,
    /// The call failed (`--exit-status`).
    CallFailed = 7,
    /// A check failed, such as a signature or an expected status.
    CheckFailed = 8,
    /// Ctrl-C or a signal.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What a command returns.
pub(crate) type Result<T = Exit> = std::result::Result<T, Failure>;

/// Why a command stopped: what happened and why, and the next thing to type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The code to exit with.
    pub(crate) exit: Exit,
    /// What happened and why, in one line. Empty if nothing is to be printed.
    pub(crate) message: String,
    /// What to do or type next.
    pub(crate) hint: Option<String>,
    /// Whether a retry may succeed, as when a server or a proxy is overloaded.
    pub(crate) is_transient: bool,
}

/// A value of this program cannot be written as JSON.
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::error(error.to_string())
    }
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, is_transient: exit == Exit::Unreachable }
    }

    /// Exits with 1.
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self::new(Exit::Error, message)
    }

    /// Exits with 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Exits with 3.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// Marks the failure as one that may not recur.
    #[must_use]
    pub(crate) fn transient(mut self) -> Self {
        self.is_transient = true;
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A failure to write to stdout. If the reader closed its pipe (`| head`), the program exits with 0 and prints no
    /// error.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::new(Exit::Ok, "")
        } else {
            let why = error.to_string();
            Self::error(format!(
                "cannot write the output: {}",
                why.split_once(" (os error").map_or(why.as_str(), |(words, _)| words)
            ))
        }
    }

    /// A failure to read or write a file.
    pub(crate) fn file(what: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Error };
        let why = error.to_string();
        // The text without the number of the OS error.
        let why = why.split_once(" (os error").map_or(why.as_str(), |(words, _)| words);
        Self::new(exit, format!("cannot {what} {}: {why}", path.display()))
    }

    /// Prints the message and the hint to stderr, and returns the exit code.
    pub(crate) fn report(&self) -> Exit {
        if !self.message.is_empty() {
            // Messages quote servers and files, so they are sanitised.
            let mut stderr = io::stderr().lock();
            let _ = writeln!(stderr, "error: {}", text::one_line(brief(&self.message)));
            if let Some(hint) = &self.hint {
                let _ = writeln!(stderr, "  {}", text::one_line(brief(hint)));
            }
        }
        self.exit
    }
}

/// Cuts a message, because it may quote a text of any length from a server or a file.
pub(crate) fn brief(message: &str) -> &str {
    const MAX_MESSAGE_BYTES: usize = 8 << 10;
    &message[..message.floor_char_boundary(MAX_MESSAGE_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_quiet_and_a_full_disk_is_not() {
        let closed = Failure::output(&io::ErrorKind::BrokenPipe.into());
        assert_eq!((closed.exit, closed.message.as_str()), (Exit::Ok, ""));
        let full = Failure::output(&io::ErrorKind::StorageFull.into());
        assert_eq!(full.exit, Exit::Error);
        assert!(full.message.starts_with("cannot write the output"));
    }
}
