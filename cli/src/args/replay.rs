//! The command line of `replay`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use crate::replay::{Expect, Speed};

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
