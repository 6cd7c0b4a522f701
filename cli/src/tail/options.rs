use std::path::PathBuf;

use super::Selection;

/// What `tail` is asked for, beside the calls that it follows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Which updates are shown.
    pub(crate) selection: Selection,
    /// Whether all live calls are followed, also those that begin later.
    pub(crate) active: bool,
    /// Whether a call is followed behind the present end of its log.
    pub(crate) follow: bool,
    /// Whether a stream that broke is resumed.
    pub(crate) reconnect: bool,
    pub(crate) save: Option<PathBuf>,
    /// Whether that file may be replaced.
    pub(crate) force: bool,
    pub(crate) cursor_file: Option<PathBuf>,
    /// Whether the exit code tells that a call failed.
    pub(crate) exit_status: bool,
}
