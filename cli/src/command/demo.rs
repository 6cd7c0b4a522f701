//! `demo`: starts a server, sends the webhooks of a call, and follows it.

use std::sync::Mutex;
use std::time::Duration;

use callscope_common::Identifier;
use callscope_server::embedded::Embedded;
use clap::Args as ClapArgs;

use super::tail::{self, View};
use crate::exit::{Exit, Failure, Result};
use crate::payload::{FreshNames, Kind, Payload};
use crate::render::Console;
use crate::replay::{self, Options, Report, Source};
use crate::secret::Secret;
use crate::settings::Settings;
use crate::speed::Speed;
use crate::stream::{Request, Start};
use crate::webhook::Sender;

/// `demo`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Demo {
    /// A shipped sample (`callscope samples ls`)
    #[arg(value_name = "SAMPLE", default_value = "tow-truck")]
    pub(crate) sample: String,
    /// How fast the call is spoken: 1x, 10x, max
    #[arg(long, default_value = "1x", value_name = "SPEED")]
    pub(crate) speed: Speed,
    /// Plain lines, also on a terminal
    #[arg(long)]
    pub(crate) plain: bool,
}

/// How long to wait for the end of the call after the last webhook was sent.
const CALL_END_TIMEOUT: Duration = Duration::from_secs(10);
/// Post-call webhooks that make a call and end it.
const POST_CALL_KINDS_OF_A_CALL: [&str; 2] = ["post_call_transcription", "call_initiation_failure"];

pub(crate) async fn run(mut settings: Settings, args: Demo) -> Result {
    let sources = replay::load(std::slice::from_ref(&args.sample), None)?;
    let mut payloads = sources.iter().flat_map(|source| &source.payloads);
    if !payloads.any(
        |payload| matches!(&payload.kind, Kind::PostCall(kind) if POST_CALL_KINDS_OF_A_CALL.contains(&kind.as_str())),
    ) {
        return Err(Failure::usage(format!("{} is no call, so there is nothing to follow", args.sample))
            .hint("see which samples are: callscope samples ls"));
    }
    let folder =
        tempfile::tempdir().map_err(|error| Failure::error(format!("cannot make a temporary folder: {error}")))?;
    let server =
        Embedded::start(folder.path()).await.map_err(|why| Failure::error(format!("cannot start a server: {why}")))?;
    settings.console.say(format!("demo server at {}", server.url));
    settings.server = server.url.parse().map_err(|error| Failure::error(format!("{}: {error}", server.url)))?;
    // The server is gone after the demo, so no printed command may name it.
    settings.flags = None;
    settings.context = None;
    settings.token = Some(Secret::new(&server.token));
    let outcome = play(&settings, &args, sources, Secret::new(&server.webhook_secret)).await;
    server.stop().await;
    outcome
}

/// Sends the sample at its own pace and follows the call, until the user leaves the view or the call ends.
async fn play(settings: &Settings, args: &Demo, mut sources: Vec<Source>, secret: Secret) -> Result {
    let fresh = FreshNames::of(sources.iter().flat_map(|source| &source.payloads));
    let named = sources.iter().flat_map(|source| &source.payloads).find_map(Payload::conversation_id);
    let conversation = named.ok_or_else(|| {
        Failure::usage(format!("{} names no conversation, so there is nothing to follow", args.sample))
    })?;
    let identifier = Identifier::parse(fresh.name(&conversation))
        .map_err(|error| Failure::error(format!("{}: {error}", args.sample)))?;
    for source in &mut sources {
        source.payloads = fresh.rewrite(&source.payloads);
    }
    let tail_args = crate::command::tail::Tail { plain: args.plain, ..Default::default() };
    let view = tail::view(settings, &tail_args)?;
    // Lines on stderr would damage a full-screen view.
    let console = if view == View::Screen { Console::silent() } else { settings.console };
    let sender = Sender::new(&settings.server, Some(secret), None, console)?;
    // The payloads have fresh identifiers already, which `identifier` above is taken from.
    let options = Options { speed: args.speed, repeat: 1, concurrency: 1, fresh: false, turns: true };
    let request = Request { identifier, start: Start::First, wait: true, follow: true, reconnect: true };
    let report = Mutex::new(Report::new(console.without_redraw(), None));
    let sending = async {
        if let Err(failure) = replay::run(&sources, &options, &sender, &report, console).await {
            return failure;
        }
        // The full-screen view stays until the user leaves it. Plain lines end with the call, which ends shortly after
        // its last webhook, or never.
        if view == View::Screen {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(CALL_END_TIMEOUT).await;
        Failure::error(format!("{} was sent, but the call did not end", args.sample))
            .hint("a sample ends its call if it is a transcription or a failure: callscope samples ls")
    };
    tokio::select! {
        outcome = tail::show(settings, vec![request], &tail_args, view) => match outcome {
            // Leaving the demo is its natural end.
            Ok(Exit::Interrupted) if view == View::Screen => Ok(Exit::Ok),
            outcome => outcome,
        },
        failure = sending => Err(failure),
    }
}
