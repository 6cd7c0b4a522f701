//! The origin of a setting, which `config show` and errors name.

use std::fmt;
use std::path::PathBuf;

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A command-line flag, by the key of its setting.
    Flag(&'static str),
    /// An environment variable.
    Environment(String),
    /// A configuration file.
    File(PathBuf),
    /// The server generated it and keeps it in this file.
    Generated(PathBuf),
    /// It was not set.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(key) => write!(f, "flag --{}", key.replace('_', "-")),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Generated(path) => write!(f, "generated, kept in {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A setting as `config show` prints it.
#[derive(Debug, Clone)]
pub struct EffectiveSetting {
    /// The setting's key.
    pub key: &'static str,
    /// The value, with secrets hidden.
    pub value: String,
    /// Where the value came from.
    pub origin: Origin,
}

/// A setting that is wrong. The text is one line that names the setting and its origin, but never the value.
#[derive(Debug, thiserror::Error)]
#[error("setting `{key}` ({origin}): {problem}")]
pub struct SettingsError {
    key: String,
    origin: Origin,
    problem: String,
}

impl SettingsError {
    pub(super) fn new(key: &str, origin: Origin, problem: impl Into<String>) -> Self {
        Self { key: key.to_owned(), origin, problem: problem.into() }
    }
}
