//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::exit::{Exit, Failure};
use crate::replay::{Expect, Speed};

/// Follow voice calls in the terminal while they are being spoken.
#[derive(Debug, Parser)]
#[command(name = "callscope", version, arg_required_else_help = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 not allowed, 5 unreachable, 6 stream lost, \
    7 call failed, 8 check failed, 130 interrupted.\nThe token comes from --token-file or CALLSCOPE_TOKEN."
)]
pub struct Args {
    /// Flags of every subcommand.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every subcommand.
#[derive(Debug, Clone, ClapArgs)]
pub struct Global {
    /// The server to talk to [default: http://127.0.0.1:8000]
    #[arg(long, global = true, value_name = "URL", env = "CALLSCOPE_SERVER", help_heading = "Global options")]
    pub server: Option<String>,
    /// A file that holds the access token (else the environment's CALLSCOPE_TOKEN)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub token_file: Option<PathBuf>,
    /// How data is written
    #[arg(short, long, global = true, value_name = "FORMAT", help_heading = "Global options")]
    pub output: Option<Format>,
    /// When to use colours; NO_COLOR turns `auto` off
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = "Global options")]
    pub color: ColorChoice,
    /// Say only what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub verbose: bool,
    /// For screen readers: plain lines only, nothing drawn over
    #[arg(long, global = true, help_heading = "Global options")]
    pub accessible: bool,
}

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Plain lines; lists with tabs between the columns and no header
    Text,
    /// Aligned columns under a header
    Table,
    /// One JSON document
    Json,
    /// One JSON document a line
    Ndjson,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a server on loopback, speak a sample call live, and follow it
    #[cfg(feature = "demo")]
    Demo(Demo),
    /// Follow calls: full-screen on a terminal, plain lines in a pipe
    Tail(Tail),
    /// List and show calls
    #[command(subcommand)]
    Calls(Calls),
    /// List, show and kick the server's live connections (admin)
    #[command(subcommand)]
    Connections(Connections),
    /// List and show the followed calls (admin)
    #[command(subcommand)]
    Subscriptions(Subscriptions),
    /// Send payloads as signed webhooks, at the call's own pace
    Replay(Replay),
    /// The payloads shipped with this program
    #[command(subcommand)]
    Samples(Samples),
    /// Sign a webhook's body, or verify a signature
    #[command(subcommand)]
    Webhook(Webhook),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// `demo`.
#[cfg(feature = "demo")]
#[derive(Debug, ClapArgs)]
pub struct Demo {
    /// A shipped sample (`callscope samples ls`)
    #[arg(value_name = "SAMPLE", default_value = "tow-truck")]
    pub sample: String,
    /// How fast the call is spoken: 1x, 10x, max
    #[arg(long, default_value = "1x", value_name = "SPEED")]
    pub speed: Speed,
    /// Plain lines, also on a terminal
    #[arg(long)]
    pub plain: bool,
}

/// `tail`.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Tail {
    /// Any identifiers of calls; none: pick from the live calls (on a terminal)
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Plain lines, also on a terminal
    #[arg(long, conflicts_with = "tui")]
    pub plain: bool,
    /// Full-screen, or an error where that is not possible
    #[arg(long)]
    pub tui: bool,
    /// Begin with the last N turns
    #[arg(short = 'n', long, value_name = "N", conflicts_with_all = ["after", "cursor_file"])]
    pub lines: Option<usize>,
    /// Begin after this event
    #[arg(long, value_name = "SEQ", conflicts_with = "cursor_file", value_parser = clap::value_parser!(i64).range(0..))]
    pub after: Option<i64>,
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
    /// Date and time before each line
    #[arg(short = 't', long)]
    pub timestamps: bool,
    /// Only turns whose text matches
    #[arg(short, long, value_name = "REGEX")]
    pub include: Vec<regex::Regex>,
    /// No turns whose text matches
    #[arg(short, long, value_name = "REGEX")]
    pub exclude: Vec<regex::Regex>,
}

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

/// `connections`.
#[derive(Debug, Subcommand)]
pub enum Connections {
    /// Every live connection of every server process
    Ls,
    /// One connection
    Show {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Close connections; their clients do not come back by themselves
    Kick {
        /// Their ids, or the beginnings of them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// `subscriptions`.
#[derive(Debug, Subcommand)]
pub enum Subscriptions {
    /// Every followed call
    Ls,
    /// Who follows one call
    Show {
        /// The call's sid, conversation id or call id
        id: String,
    },
}

/// `replay`.
#[derive(Debug, ClapArgs)]
pub struct Replay {
    /// Files, folders of *.json, shipped samples (`callscope samples ls`), or `-` for stdin
    #[arg(required = true, value_name = "FILE|DIR|SAMPLE")]
    pub sources: Vec<String>,
    /// How fast calls are spoken: 1x, 10x, max
    #[arg(long, default_value = "1x", value_name = "SPEED")]
    pub speed: Speed,
    /// Send everything N times
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// How many calls at once
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
    /// New identifiers and times, so that it is another call
    #[arg(long)]
    pub fresh: bool,
    /// Only the post-call webhooks; don't speak their transcripts live first
    #[arg(long)]
    pub no_turns: bool,
    /// Print curl commands instead, without the secret
    #[arg(long)]
    pub dry_run: bool,
    /// The answers that are right, such as 2xx or 401,413; any other makes exit code 8
    #[arg(long, value_name = "STATUS")]
    pub expect: Option<Expect>,
    /// A file that holds the webhook secret (else CALLSCOPE_WEBHOOK_SECRET(S), else callscope.secrets.toml)
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

/// `samples`.
#[derive(Debug, Subcommand)]
pub enum Samples {
    /// Their names
    Ls,
    /// Print one
    Show {
        /// Its name
        name: String,
    },
}

/// `webhook`.
#[derive(Debug, Subcommand)]
pub enum Webhook {
    /// Print the ElevenLabs-Signature header's value for a body
    Sign {
        /// The body; `-` for stdin
        #[arg(value_name = "FILE")]
        body: PathBuf,
        /// A file that holds the webhook secret
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        /// The time to sign with, in Unix seconds [default: now]
        #[arg(long, value_name = "UNIX", value_parser = clap::value_parser!(i64).range(0..))]
        at: Option<i64>,
    },
    /// Check a header's value against a body; exit code 8 when it does not fit
    Verify {
        /// The body; `-` for stdin
        #[arg(value_name = "FILE")]
        body: PathBuf,
        /// The ElevenLabs-Signature header's value
        #[arg(long, value_name = "VALUE")]
        header: String,
        /// A file that holds the webhook secret
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        /// The time of receipt, in Unix seconds [default: now]
        #[arg(long, value_name = "UNIX", value_parser = clap::value_parser!(i64).range(0..))]
        at: Option<i64>,
        /// How many seconds the signed time may lie back
        #[arg(long, value_name = "SECS", default_value_t = 1800, value_parser = clap::value_parser!(i64).range(0..))]
        tolerance: i64,
    },
}

/// Reads the command line; help and errors are printed here.
pub fn parse() -> std::result::Result<Args, Exit> {
    Args::try_parse().map_err(|message| {
        let usage = if message.use_stderr() { Exit::Usage } else { Exit::Ok };
        match message.print() {
            Ok(()) => usage,
            Err(error) if usage == Exit::Ok => Failure::output(&error).report(),
            Err(_) => usage,
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        super::Args::command().debug_assert();
    }
}
