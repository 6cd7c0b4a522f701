//! The command line of `calls`.

use clap::Subcommand;

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
        /// Only calls since this time: RFC 3339, or 30m, 2h, 7d ago
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// One call: state, result, identifiers
    Show {
        /// Any identifier of the call
        id: String,
    },
}
