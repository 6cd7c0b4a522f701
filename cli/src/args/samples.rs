//! The command line of `samples`.

use std::path::PathBuf;

use clap::Subcommand;

/// `samples`.
#[derive(Debug, Subcommand)]
pub enum Samples {
    /// Their names
    Ls,
    /// Print one
    Show {
        /// Its name
        #[arg(add = crate::complete::samples())]
        name: String,
    },
    /// A payload of your own to begin with: a shipped sample or a type, under new names and with times that begin now
    New {
        /// A sample's name, or a type such as post_call_transcription or turn
        template: String,
        /// Where to; it must not be there yet [default: stdout]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Say what is wrong with payloads, and what is merely unknown; exit code 8 where something is wrong
    Validate {
        /// Files, folders of *.json and *.ndjson, shipped samples, or `-` for stdin
        #[arg(required = true, value_name = "FILE|DIR|SAMPLE")]
        sources: Vec<String>,
    },
}
