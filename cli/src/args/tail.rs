//! The command line of `tail`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use crate::live::Place;
use crate::tui::pattern::Pattern;

/// `tail`.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Tail {
    /// Any identifiers of calls; none: pick from the live calls (on a terminal)
    #[arg(value_name = "ID", add = crate::complete::calls())]
    pub ids: Vec<String>,
    /// Follow all live calls, and those that come
    #[arg(long, conflicts_with = "no_follow")]
    pub active: bool,
    /// Plain lines, also on a terminal
    #[arg(long, conflicts_with = "tui")]
    pub plain: bool,
    /// Full-screen, or an error where that is not possible
    #[arg(long)]
    pub tui: bool,
    /// Begin with the last N turns
    #[arg(short = 'n', long, value_name = "N", conflicts_with_all = ["after", "cursor_file"])]
    pub lines: Option<usize>,
    /// Begin behind this cursor, which a message carried, or after the event of this number
    #[arg(long, value_name = "CURSOR|SEQ", conflicts_with = "cursor_file", allow_negative_numbers = true)]
    pub after: Option<Place>,
    /// Stop once everything there is now has come
    #[arg(long)]
    pub no_follow: bool,
    /// Wait for a call that is not known yet
    #[arg(long)]
    pub wait: bool,
    /// Exit with 6 when the connection breaks
    #[arg(long, conflicts_with = "reconnect")]
    pub no_reconnect: bool,
    /// Take the stream up again when the connection breaks; the default
    #[arg(long)]
    pub reconnect: bool,
    /// Keep the place in this file, and begin there the next time
    #[arg(long, value_name = "FILE")]
    pub cursor_file: Option<PathBuf>,
    /// Exit with 7 when a call failed
    #[arg(long)]
    pub exit_status: bool,
    /// Also write the stream to this file, as NDJSON
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Let --save take the place of a file that is there
    #[arg(long, requires = "save")]
    pub force: bool,
    /// Date and time before each line
    #[arg(short = 't', long)]
    pub timestamps: bool,
    /// Only turns whose text matches
    #[arg(short, long, value_name = "REGEX")]
    pub include: Vec<Pattern>,
    /// No turns whose text matches
    #[arg(short, long, value_name = "REGEX")]
    pub exclude: Vec<Pattern>,
}
