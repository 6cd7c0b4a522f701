//! How calls are followed, shown and kept.

use std::path::PathBuf;

use super::Selection;

/// What `tail` is asked for, beside the calls that it follows.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which updates are shown.
    pub selection: Selection,
    /// Whether all live calls are followed, and those that come.
    pub active: bool,
    /// Whether a call is followed behind the end of its log as it is now.
    pub follow: bool,
    /// Whether a stream that broke is resumed.
    pub reconnect: bool,
    /// The file that the stream is saved to.
    pub save: Option<PathBuf>,
    /// Whether that file may be replaced.
    pub force: bool,
    /// The file that remembers how far each call was read.
    pub cursor_file: Option<PathBuf>,
    /// Whether the exit code says that a call failed.
    pub exit_status: bool,
}
