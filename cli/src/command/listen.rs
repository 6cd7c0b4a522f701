//! `listen`: follows what comes in and forwards it.

use std::path::PathBuf;
use std::time::Duration;

use callscope_common::api::Verdict;
use clap::Args as ClapArgs;

use super::deliveries::verdicts;
use crate::exit::{Failure, Result};
use crate::listen::{self, CursorFile, Filter, Options, Target, TargetClient};
use crate::secret::Secret;
use crate::settings::Settings;

/// `listen`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Each delivery is forwarded at least once, in the order in which the server committed them, with these headers \
    beside its own: Callscope-Delivery-Id, Callscope-Verdict, Callscope-Attempt, and Callscope-Duplicate where the target may \
    have seen it: `received-again` (the sender repeated it), `sent-again` (this program did).\n\nKeys on a terminal: r sends the \
    last one again, Ctrl-C ends."
)]
pub(crate) struct Listen {
    /// Where to send each delivery; {route} in it becomes transcription or post-call. Without it they are only shown
    #[arg(long, value_name = "URL")]
    pub(crate) forward_to: Option<Target>,
    /// Sign each delivery again, with the secret in this file and the present time [default: the signature as it came]
    #[arg(long, value_name = "FILE", requires = "forward_to")]
    pub(crate) sign_with_file: Option<PathBuf>,
    /// Only of these types, such as post_call_transcription, turn, partial
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kinds: Vec<String>,
    /// Only of these calls: their sids, conversation ids or call ids
    #[arg(long = "call", value_name = "ID")]
    pub(crate) calls: Vec<String>,
    /// Only of these verdicts; `unverified` shows what the server refused because its signature did not fit
    #[arg(long = "verdict", value_name = "VERDICT", value_parser = verdicts())]
    pub(crate) verdicts: Vec<Verdict>,
    /// Begin with the oldest delivery that is kept, not with the next one to come; a place in the cursor file goes
    /// before
    #[arg(long)]
    pub(crate) history: bool,
    /// Keep the place in this file, and begin there the next time
    #[arg(long, value_name = "FILE")]
    pub(crate) cursor_file: Option<PathBuf>,
    /// How often a delivery that the target answers with 429 or 5xx is sent before it is given up
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) attempts: u32,
    /// How many seconds an answer of the target may take
    #[arg(long, value_name = "SECS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) timeout: u64,
}

pub(crate) async fn run(settings: &Settings, args: Listen) -> Result {
    if args.verdicts == [Verdict::Unverified] && args.forward_to.is_some() {
        return Err(Failure::usage("nothing is kept of attempts that did not verify, so there is nothing to forward")
            .hint("they are shown without --forward-to, and listed by: callscope deliveries ls --verdict unverified"));
    }
    let secret = args.sign_with_file.as_deref().map(Secret::read).transpose()?;
    let cursor_file = args.cursor_file.as_deref().map(CursorFile::open).transpose()?;
    let client = |target| TargetClient::new(target, secret, Duration::from_secs(args.timeout));
    let target = args.forward_to.map(client).transpose()?;
    let filter = Filter { kinds: args.kinds, calls: args.calls, verdicts: args.verdicts };
    listen::run(settings, Options { filter, target, attempts: args.attempts, cursor_file, history: args.history }).await
}
