//! The command line of `webhook`.

use std::path::PathBuf;

use clap::Subcommand;

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
        /// The body; `-` for stdin; or a delivery with its headers (`callscope deliveries show ID -o json`)
        #[arg(value_name = "FILE")]
        body: PathBuf,
        /// The ElevenLabs-Signature header's value, or `Name: value`; more than once for all that may matter
        #[arg(long, value_name = "VALUE")]
        header: Vec<String>,
        /// A file that holds the webhook secret; --explain tries those of further ones as well
        #[arg(long, value_name = "FILE")]
        secret_file: Vec<PathBuf>,
        /// The time of receipt, in Unix seconds [default: now, or when the delivery came]
        #[arg(long, value_name = "UNIX", value_parser = clap::value_parser!(i64).range(0..))]
        at: Option<i64>,
        /// How many seconds the signed time may lie back
        #[arg(long, value_name = "SECS", default_value_t = 1800, value_parser = clap::value_parser!(i64).range(0..))]
        tolerance: i64,
        /// Try the likely causes of a mismatch, and name the one that fits
        #[arg(long)]
        explain: bool,
    },
}
