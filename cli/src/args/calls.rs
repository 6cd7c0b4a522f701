//! The command line of `calls`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use crate::complete;

/// `calls`.
#[derive(Debug, Subcommand)]
pub enum Calls {
    /// The calls, newest first
    Ls {
        /// Only calls of this status: initiated, in_progress, completed, failed
        #[arg(long)]
        status: Option<callscope_common::CallStatus>,
        /// Only calls of this agent
        #[arg(long, value_name = "ID")]
        agent: Option<String>,
        /// Only calls in which this occurs
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Only calls since this time: 2026-10-01, 2026-10-01T14:00:00Z, Unix seconds, or 30m, 1h30m, 7d ago
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// One call: state, result, identifiers
    Show {
        /// Any identifier of the call
        #[arg(add = complete::calls())]
        id: String,
    },
    /// A line for every call that begins, moves on or ends, as it happens
    #[command(after_help = "Ends with Ctrl-C. For the words of a call: callscope tail ID")]
    Watch {
        /// Only calls of this agent
        #[arg(long, value_name = "ID")]
        agent: Option<String>,
        /// Only beginnings and ends, not every turn
        #[arg(long)]
        ends: bool,
        /// Seconds between two looks at the server
        #[arg(long, value_name = "SECS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
        interval: u64,
    },
    /// A call as a file: what was said, or every event
    #[command(
        after_help = "txt   a line a turn\nmd    for reading: result, summary and turns\njson  the turns with their times\n\
        ndjson  every event as the stream sends it; callscope play shows it again\nsrt, vtt  subtitles for the recording"
    )]
    Export {
        /// Any identifier of the call
        #[arg(add = complete::calls())]
        id: String,
        /// What to make of it [default: by the ending of --to, else txt]
        #[arg(long, value_name = "FORMAT")]
        format: Option<Kind>,
        /// Whose turns: those that came live, the provider's final ones, or the first of these there are
        #[arg(long, value_name = "SOURCE", default_value = "auto", value_parser = ["auto", "live", "final"])]
        source: String,
        /// The file to write; never a half one
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Take the place of a file that is there
        #[arg(long, requires = "to")]
        force: bool,
    },
}

/// What `export` makes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A line a turn
    Txt,
    /// Markdown
    Md,
    /// The turns as JSON
    Json,
    /// Every event, one a line
    Ndjson,
    /// SubRip subtitles
    Srt,
    /// WebVTT subtitles
    Vtt,
}
