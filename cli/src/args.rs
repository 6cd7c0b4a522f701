//! The command line; a file for each subcommand.

mod calls;
mod connections;
mod deliveries;
#[cfg(feature = "demo")]
mod demo;
mod listen;
mod replay;
mod samples;
mod subscriptions;
mod tail;
mod webhook;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::exit::{Exit, Failure};
pub use calls::Calls;
pub use connections::Connections;
pub use deliveries::{Deliveries, Export as ExportDeliveries, Verdict, Which as WhichDeliveries};
#[cfg(feature = "demo")]
pub use demo::Demo;
pub use listen::Listen;
pub use replay::Replay;
pub use samples::Samples;
pub use subscriptions::Subscriptions;
pub use tail::Tail;
pub use webhook::Webhook;

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
    /// What came in: list, show, replay and export it (admin)
    #[command(subcommand)]
    Deliveries(Deliveries),
    /// Follow what comes in and forward it to a server of your own (admin)
    Listen(Listen),
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
