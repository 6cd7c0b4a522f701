//! Exit codes, and the failures that lead to them.

use std::io::{self, Write as _};
use std::process::ExitCode;

use callscope_common::text;

/// How the program ends, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All went well; also a reader that closed its pipe.
    Ok = 0,
    /// Something went wrong that has no code of its own.
    Error = 1,
    /// The command line or a setting makes no sense.
    Usage = 2,
    /// No such call, connection, file or sample.
    NotFound = 3,
    /// No token, a bad one, or one without the right.
    NotAllowed = 4,
    /// No server answers.
    Unreachable = 5,
    /// The stream broke and is not taken up again.
    StreamLost = 6,
    /// The call failed (`--exit-status`).
    CallFailed = 7,
    /// A check said no: a signature, an expected status.
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
    /// What happened and why, in one line; empty where there is nothing to say.
    pub(crate) message: String,
    /// What to do or type next.
    pub(crate) hint: Option<String>,
    /// Whether the same, tried again, may well succeed, as where a server or a proxy is overloaded.
    pub(crate) is_passing: bool,
}

/// What was made cannot be spelled as JSON.
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::error(error.to_string())
    }
}

impl Failure {
    /// A failure that exits with `exit`.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, is_passing: exit == Exit::Unreachable }
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

    /// One that may pass.
    #[must_use]
    pub(crate) fn passing(mut self) -> Self {
        self.is_passing = true;
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A failure to write the output. A reader that has seen enough (`| head`) is none: that ends quietly with 0,
    /// as with every tool whose output is piped.
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
        // The number behind the words tells people nothing.
        let why = why.split_once(" (os error").map_or(why.as_str(), |(words, _)| words);
        Self::new(exit, format!("cannot {what} {}: {why}", path.display()))
    }

    /// Says it on stderr and gives the exit code.
    pub(crate) fn report(&self) -> Exit {
        if !self.message.is_empty() {
            // Messages quote servers and files, so they are as untrusted as a call.
            let mut stderr = io::stderr().lock();
            let _ = writeln!(stderr, "error: {}", text::one_line(brief(&self.message)));
            if let Some(hint) = &self.hint {
                let _ = writeln!(stderr, "  {}", text::one_line(brief(hint)));
            }
        }
        self.exit
    }
}

/// The beginning of a message: what it quotes of a server or a file may be as long as they like.
pub(crate) fn brief(message: &str) -> &str {
    const LONGEST: usize = 8 << 10;
    &message[..message.floor_char_boundary(LONGEST)]
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
