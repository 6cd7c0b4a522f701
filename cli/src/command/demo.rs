//! `demo`: a server, a call and its tail in one command.

use std::sync::Mutex;
use std::time::Duration;

use callscope_common::Identifier;
use callscope_server::embedded::Embedded;
use clap::Args as ClapArgs;

use super::tail::{self, View};
use crate::exit::{Exit, Failure, Result};
use crate::payload::{Fresh, Kind, Payload};
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

/// How long the tail of a call may take after all of it was sent.
const GRACE: Duration = Duration::from_secs(10);
/// The webhooks that make a call.
const CALLS: [&str; 2] = ["post_call_transcription", "call_initiation_failure"];

pub(crate) async fn run(mut settings: Settings, args: Demo) -> Result {
    let sources = replay::load(std::slice::from_ref(&args.sample), None)?;
    let mut payloads = sources.iter().flat_map(|source| &source.payloads);
    if !payloads.any(|payload| matches!(&payload.kind, Kind::PostCall(kind) if CALLS.contains(&kind.as_str()))) {
        return Err(Failure::usage(format!("{} is no call, so there is nothing to follow", args.sample))
            .hint("see which samples are: callscope samples ls"));
    }
    let folder =
        tempfile::tempdir().map_err(|error| Failure::error(format!("cannot make a temporary folder: {error}")))?;
    let server =
        Embedded::start(folder.path()).await.map_err(|why| Failure::error(format!("cannot start a server: {why}")))?;
    settings.console.say(format!("demo server at {}", server.url));
    settings.server = server.url.parse().map_err(|error| Failure::error(format!("{}: {error}", server.url)))?;
    // Nothing of it is left when the demo is over.
    settings.flags = None;
    settings.context = None;
    settings.token = Some(Secret::new(&server.token));
    let shown = play(&settings, &args, sources, Secret::new(&server.webhook_secret)).await;
    server.stop().await;
    shown
}

/// Speaks the sample and shows its tail, until the view is left or the call is over.
async fn play(settings: &Settings, args: &Demo, mut sources: Vec<Source>, secret: Secret) -> Result {
    let fresh = Fresh::of(sources.iter().flat_map(|source| &source.payloads));
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
    // Behind a full-screen view there is no place for lines.
    let console = if view == View::Screen { Console::silent() } else { settings.console };
    let sender = Sender::new(&settings.server, Some(secret), None, console)?;
    let options = Options { speed: args.speed, repeat: 1, concurrency: 1, fresh: false, turns: true };
    let request = Request { identifier, start: Start::First, wait: true, follow: true, reconnect: true };
    let report = Mutex::new(Report::new(console.lasting(), None));
    let speaking = async {
        if let Err(failure) = replay::run(&sources, &options, &sender, &report, console).await {
            return failure;
        }
        // The view shows what has come until it is left; lines end with the call, which by now has ended if it ever
        // does.
        if view == View::Screen {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GRACE).await;
        Failure::error(format!("{} was sent, and its call goes on", args.sample))
            .hint("the samples that end are transcriptions and failures: callscope samples ls")
    };
    tokio::select! {
        shown = tail::show(settings, vec![request], &tail_args, view) => match shown {
            // Leaving the demo is its natural end.
            Ok(Exit::Interrupted) if view == View::Screen => Ok(Exit::Ok),
            shown => shown,
        },
        failure = speaking => Err(failure),
    }
}
