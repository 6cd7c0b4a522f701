//! The command line of `trigger`.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use url::Url;

use super::replay::backend;
use crate::replay::{Expect, Remove, Set, Tamper};

/// `trigger`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Events: post_call_transcription (transcription), call_initiation_failure (failure), post_call_audio (audio), \
post_call_transcription_otel (otel), turn, answering_machine_detection. Any other name is an error, unless --force says that it is meant.\n\n\
Examples:\n  \
callscope trigger transcription --set data.analysis.call_successful=failure\n  \
callscope trigger turn --set message='Hello?' --set conversation_id=conv_1\n  \
callscope trigger audio --to http://localhost:3000/webhook\n  \
callscope trigger failure --edit --print > busy.json")]
pub struct Trigger {
    /// What happened: a webhook's type, or `turn`
    #[arg(value_name = "EVENT")]
    pub event: String,
    /// Send it as a type of that name also where the name is not known
    #[arg(long)]
    pub force: bool,
    /// Put JSON at a place: `data.metadata.cost=7`; what is no JSON is a text
    #[arg(long, value_name = "PATH=JSON")]
    pub set: Vec<Set>,
    /// Take away what is at a place
    #[arg(long, value_name = "PATH")]
    pub remove: Vec<Remove>,
    /// Change it in $VISUAL or $EDITOR before it is sent
    #[arg(long)]
    pub edit: bool,
    /// Print it instead of sending it
    #[arg(long, conflicts_with_all = ["to", "tamper", "expect"])]
    pub print: bool,
    /// Make it one that is to be refused
    #[arg(long, value_name = "WHAT")]
    pub tamper: Option<Tamper>,
    /// The answers that are right, such as 2xx or 401,413; any other makes exit code 8 and is shown as a diff
    #[arg(long, value_name = "STATUS")]
    pub expect: Option<Expect>,
    /// Another backend: the URL that takes it
    #[arg(long, value_name = "URL", value_parser = backend)]
    pub to: Option<Url>,
    /// A file that holds the webhook secret (else CALLSCOPE_WEBHOOK_SECRET(S), else callscope.secrets.toml)
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}
