//! The command line of `replay`.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use url::Url;

use crate::replay::{Expect, Rate, Remove, Set, Share, Speed, Tamper};

/// `replay`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Sources are payloads as JSON (one, an array, or one a line), what `callscope deliveries show ID -o json` or `deliveries export` saved, \
and what `callscope tail --save` recorded. A replay that was interrupted says where it stopped and how to go on.\n\n\
Examples:\n  \
callscope replay tow-truck --fresh                      a sample call, spoken live\n  \
callscope replay calls/ --fresh --speed 60x --concurrency 200 --repeat 10\n  \
callscope replay saved.json --as-is                     a delivery exactly as it came\n  \
callscope replay tow-truck --to http://localhost:3000/webhook --tamper body")]
pub struct Replay {
    /// Files, folders of *.json and *.ndjson, shipped samples (`callscope samples ls`), or `-` for stdin
    #[arg(required_unless_present = "resume", value_name = "FILE|DIR|SAMPLE")]
    pub sources: Vec<String>,
    /// Go on with a replay that was interrupted; the latest where none is named
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "last", conflicts_with_all = [
        "sources", "speed", "rate", "repeat", "concurrency", "fresh", "as_is", "set", "remove", "no_turns", "shuffle", "duplicate",
        "drop", "seed", "tamper", "to", "turns_to", "dry_run", "expect", "watch",
    ])]
    pub resume: Option<String>,

    /// How fast calls are spoken: 1x, 10x, max
    #[arg(long, default_value = "1x", value_name = "SPEED", help_heading = "Pace")]
    pub speed: Speed,
    /// At most so many deliveries a second, over all calls: 50, 30/m
    #[arg(long, value_name = "N", help_heading = "Pace")]
    pub rate: Option<Rate>,
    /// Send everything N times
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Pace")]
    pub repeat: u32,
    /// How many calls at once
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Pace")]
    pub concurrency: u16,

    /// New identifiers and times, the same ones throughout, so that these are other calls
    #[arg(long, help_heading = "Contents")]
    pub fresh: bool,
    /// Recorded bytes and headers as they came, with the old signature
    #[arg(long, conflicts_with_all = ["fresh", "set", "remove", "tamper"], help_heading = "Contents")]
    pub as_is: bool,
    /// Put JSON at a place: `data.metadata.cost=7`, `data.transcript[*].message=null`; what is no JSON is a text
    #[arg(long, value_name = "PATH=JSON", help_heading = "Contents")]
    pub set: Vec<Set>,
    /// Take away what is at a place
    #[arg(long, value_name = "PATH", help_heading = "Contents")]
    pub remove: Vec<Remove>,
    /// Only the post-call webhooks; don't speak their transcripts live first
    #[arg(long, help_heading = "Contents")]
    pub no_turns: bool,

    /// Calls begin in any order, and so come the webhooks after each
    #[arg(long, help_heading = "Mischief")]
    pub shuffle: bool,
    /// Everything twice, both at the same time
    #[arg(long, help_heading = "Mischief")]
    pub duplicate: bool,
    /// Lose this share of the deliveries, or of their answers, and send them again until all have arrived: 2%, 0.02
    #[arg(long, value_name = "P", help_heading = "Mischief")]
    pub drop: Option<Share>,
    /// Repeat the decisions of --shuffle and --drop
    #[arg(long, value_name = "N", help_heading = "Mischief")]
    pub seed: Option<u64>,
    /// Make every delivery one that is to be refused
    #[arg(long, value_name = "WHAT", help_heading = "Mischief")]
    pub tamper: Option<Tamper>,

    /// Another backend: the URL that takes the post-call webhooks. Turns are not sent there, as ElevenLabs sends none
    #[arg(long, value_name = "URL", value_parser = backend, help_heading = "Target")]
    pub to: Option<Url>,
    /// The URL of another backend that takes the turns
    #[arg(long, value_name = "URL", value_parser = backend, requires = "to", help_heading = "Target")]
    pub turns_to: Option<Url>,
    /// A file that holds the webhook secret (else CALLSCOPE_WEBHOOK_SECRET(S), else callscope.secrets.toml)
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    pub secret_file: Option<PathBuf>,

    /// Print curl commands instead, without the secret
    #[arg(long, help_heading = "Result")]
    pub dry_run: bool,
    /// The answers that are right, such as 2xx or 401,413; any other makes exit code 8 and is shown as a diff
    #[arg(long, value_name = "STATUS", help_heading = "Result")]
    pub expect: Option<Expect>,
    /// Follow the calls that this makes, on stdout
    #[arg(long, conflicts_with_all = ["to", "dry_run"], help_heading = "Result")]
    pub watch: bool,
}

/// Takes the URL of a backend.
pub fn backend(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a user or password in it would be seen by everybody on this machine".into());
    }
    match url.scheme() {
        "http" | "https" if url.host_str().is_some() => Ok(url),
        _ => Err("it takes the whole URL, such as http://localhost:3000/webhook".into()),
    }
}
