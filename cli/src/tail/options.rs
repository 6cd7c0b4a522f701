use std::path::PathBuf;

use super::Selection;

/// The options of `tail`, apart from the calls that it follows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Which updates are shown.
    pub(crate) selection: Selection,
    /// Whether all live calls are followed, also those that begin later.
    pub(crate) active: bool,
    /// Whether a call is followed beyond the present end of its log.
    pub(crate) follow: bool,
    /// Whether a broken stream is resumed.
    pub(crate) reconnect: bool,
    pub(crate) save: Option<PathBuf>,
    /// Whether an existing file at `save` may be replaced.
    pub(crate) force: bool,
    pub(crate) cursor_file: Option<PathBuf>,
    /// Whether the exit code shows that a call failed.
    pub(crate) exit_status: bool,
}
