//! The command line of `deliveries`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

/// `deliveries`.
#[derive(Debug, Subcommand)]
pub enum Deliveries {
    /// What came in, newest first
    Ls {
        /// Which ones
        #[command(flatten)]
        which: Which,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// One delivery: its headers, its bytes, its answer, and what it changed
    Show {
        /// Its id
        id: String,
        /// Print nothing but the body, byte for byte
        #[arg(long)]
        body: bool,
    },
    /// Have deliveries taken up once more: as the same ones, so that what took effect already is answered as a repeat
    Replay {
        /// Their ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// As new ones: they take effect again
        #[arg(long)]
        as_new: bool,
    },
    /// Write deliveries as fixtures: one JSON line each (bytes and headers), or a folder of payloads
    Export(Export),
}

/// Which deliveries.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Which {
    /// Only of this verdict; `unverified` lists the attempts whose signature did not fit
    #[arg(long, value_name = "VERDICT")]
    pub verdict: Option<Verdict>,
    /// Only of this type, such as post_call_transcription, turn, partial
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Only of this call: any identifier of it
    #[arg(long, value_name = "ID")]
    pub call: Option<String>,
    /// Only those in whose body, reason or address this occurs
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// Only since this time: 2026-10-01, 2026-10-01T14:00:00Z, Unix seconds, or 30m, 1h30m, 7d ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only until this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// How a delivery was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Verdict {
    /// It took effect
    Accepted,
    /// It had been received before
    Duplicate,
    /// It was kept and nothing was done
    Ignored,
    /// It was refused
    Rejected,
    /// Its signature did not fit
    Unverified,
}

impl Verdict {
    /// As the server spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
            Self::Unverified => "unverified",
        }
    }
}

/// `deliveries export`.
#[derive(Debug, ClapArgs)]
pub struct Export {
    /// Ids of deliveries; none: those that the filters choose
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Which ones
    #[command(flatten)]
    pub which: Which,
    /// Most deliveries to export
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Write each body to a file of its own in this folder instead
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
    /// Replace phone numbers, e-mail addresses and names, drop recordings, addresses and all headers but the type
    #[arg(long)]
    pub redact: bool,
    /// Replace the value at this path too, such as `data.metadata.note` or `data.transcript[*].message`
    #[arg(long, value_name = "PATH")]
    pub redact_field: Vec<crate::redact::Path>,
}
