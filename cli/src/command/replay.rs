//! `replay`: payloads back into signed webhooks.

mod repeats;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

use callscope_common::Identifier;
use clap::{Args as ClapArgs, Parser as _};
use url::Url;

use super::tail::{self, View};
use super::{Args, Command};
use crate::exit::{Exit, Failure, Result};
use crate::payload::{Edit, Payload};
use crate::render::{Format, Safe, shell_word};
use crate::replay::{self, Faults, Journal, JournalHeader, Options, Report, Source, Work, lock};
use crate::secret::{Secret, webhook_secret};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::speed::Speed;
use crate::stream::{Request, Start};
use crate::webhook::{Expect, Pace, Rate, Sender, Tamper, Target, parse_backend_url};

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
pub(crate) struct Replay {
    /// Files, folders of *.json and *.ndjson, shipped samples (`callscope samples ls`), or `-` for stdin
    #[arg(required_unless_present = "resume", value_name = "FILE|DIR|SAMPLE")]
    pub(crate) sources: Vec<String>,
    /// Go on with a replay that was interrupted; the latest where none is named
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "last", conflicts_with_all = [
        "sources", "speed", "rate", "repeat", "concurrency", "fresh", "as_is", "set", "remove", "no_turns", "shuffle", "duplicate",
        "drop", "seed", "tamper", "to", "turns_to", "dry_run", "expect", "watch",
    ])]
    pub(crate) resume: Option<String>,

    /// How fast calls are spoken: 1x, 10x, max
    #[arg(long, default_value = "1x", value_name = "SPEED", help_heading = "Pace")]
    pub(crate) speed: Speed,
    /// At most so many deliveries a second, over all calls: 50, 30/m
    #[arg(long, value_name = "N", help_heading = "Pace")]
    pub(crate) rate: Option<Rate>,
    /// Send everything N times
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Pace")]
    pub(crate) repeat: u32,
    /// How many calls at once
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Pace")]
    pub(crate) concurrency: u16,

    /// New identifiers and times, the same ones throughout, so that these are other calls
    #[arg(long, help_heading = "Contents")]
    pub(crate) fresh: bool,
    /// Recorded bytes and headers as they came, with the old signature
    #[arg(long, conflicts_with_all = ["fresh", "set", "remove", "tamper"], help_heading = "Contents")]
    pub(crate) as_is: bool,
    /// Put JSON at a place: `data.metadata.cost=7`, `data.transcript[*].message=null`; what is no JSON is a text
    #[arg(long, value_name = "PATH=JSON", value_parser = Edit::set, help_heading = "Contents")]
    pub(crate) set: Vec<Edit>,
    /// Take away what is at a place
    #[arg(long, value_name = "PATH", value_parser = Edit::remove, help_heading = "Contents")]
    pub(crate) remove: Vec<Edit>,
    /// Only the post-call webhooks; don't speak their transcripts live first
    #[arg(long, help_heading = "Contents")]
    pub(crate) no_turns: bool,

    /// Calls begin in any order, and so come the webhooks after each
    #[arg(long, help_heading = "Fault injection")]
    pub(crate) shuffle: bool,
    /// Everything twice, both at the same time
    #[arg(long, help_heading = "Fault injection")]
    pub(crate) duplicate: bool,
    /// Lose this share of the deliveries, or of their answers, and send them again until all have arrived: 2%, 0.02
    #[arg(long, value_name = "P", value_parser = replay::parse_share, help_heading = "Fault injection")]
    pub(crate) drop: Option<f64>,
    /// Repeat the decisions of --shuffle and --drop
    #[arg(long, value_name = "N", help_heading = "Fault injection")]
    pub(crate) seed: Option<u64>,
    /// Make every delivery one that is to be refused
    #[arg(long, value_name = "WHAT", help_heading = "Fault injection")]
    pub(crate) tamper: Option<Tamper>,

    /// Another backend: the URL that takes the post-call webhooks. Turns are not sent there, as ElevenLabs sends none
    #[arg(long, value_name = "URL", value_parser = parse_backend_url, help_heading = "Target")]
    pub(crate) to: Option<Url>,
    /// The URL of another backend that takes the turns
    #[arg(long, value_name = "URL", value_parser = parse_backend_url, requires = "to", help_heading = "Target")]
    pub(crate) turns_to: Option<Url>,
    /// A file that holds the webhook secret (else CALLSCOPE_WEBHOOK_SECRET(S), else callscope.secrets.toml)
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    pub(crate) secret_file: Option<PathBuf>,

    /// Print curl commands instead, without the secret
    #[arg(long, help_heading = "Result")]
    pub(crate) dry_run: bool,
    /// The answers that are right, such as 2xx or 401,413; any other makes exit code 8 and is shown as a diff
    #[arg(long, value_name = "STATUS", help_heading = "Result")]
    pub(crate) expect: Option<Expect>,
    /// Follow the calls that this makes, on stdout
    #[arg(long, conflicts_with_all = ["to", "dry_run"], help_heading = "Result")]
    pub(crate) watch: bool,
}

/// How many calls `--watch` can follow.
const MAX_WATCHED_CALLS: usize = 100;
/// How long `--watch` goes on after the last delivery was sent.
const WATCH_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn run(settings: &Settings, args: Replay) -> Result {
    match &args.resume {
        Some(id) => resume(settings, id).await,
        None => begin(settings, args).await,
    }
}

async fn begin(settings: &Settings, args: Replay) -> Result {
    let stdin = if args.sources.iter().any(|name| name == "-") { Some(replay::read_stdin()?) } else { None };
    let sources = replay::load(&args.sources, stdin.as_deref())?;
    let work = work(&sources, &args, None)?;
    if args.dry_run {
        let sender = sender(settings, &args, None)?;
        let secret =
            args.secret_file.as_ref().map(|path| format!(" --secret-file {}", shell_word(&path.to_string_lossy())));
        settings.output(Format::Text).write(&Safe::lines(&replay::commands(
            &work,
            &sender,
            &secret.unwrap_or_default(),
        )))?;
        return Ok(Exit::Ok);
    }
    let header = JournalHeader {
        id: work.id().to_owned(),
        began: work.began(),
        args: std::env::args().skip(1).collect(),
        folder: std::env::current_dir().unwrap_or_default(),
        server: settings.server.to_string(),
        stdin,
        sources: replay::fingerprint(&sources),
    };
    let journal = Journal::create(&header).unwrap_or_else(|failure| {
        if work.delivery_count() > 1 {
            settings.console.warn(format!("if this is interrupted, it cannot go on later: {}", failure.message));
        }
        Journal::default()
    });
    send(settings, &args, &work, journal).await
}

/// Goes on with the replay called `id`.
async fn resume(settings: &Settings, id: &str) -> Result {
    let (header, journal) = Journal::open(id)?;
    let broken = |what: &str| Failure::error(format!("the record of replay {} {what}", header.id));
    let line = std::iter::once("callscope").chain(header.args.iter().map(String::as_str));
    let parsed = Args::try_parse_from(line).map_err(|_| broken("is of another version of this program"))?;
    let Command::Replay(args) = parsed.command else { return Err(broken("is damaged")) };
    // Relative paths on its command line start there.
    std::env::set_current_dir(&header.folder)
        .map_err(|error| Failure::file("go to the folder", &header.folder, &error))?;
    let sources = replay::load(&args.sources, header.stdin.as_deref())?;
    if replay::fingerprint(&sources) != header.sources {
        return Err(Failure::error(format!(
            "the sources of replay {} have changed since it was interrupted",
            header.id
        ))
        .hint("going on would send something else; start over with the replay's own command line"));
    }
    let server = header.server.parse().map_err(|_| broken("names no server"))?;
    let settings = Settings { server, ..settings.clone() };
    let work = work(&sources, &args, Some(&header))?;
    settings.console.say(format!("going on after {} of {} deliveries", journal.done_count(), work.delivery_count()));
    send(&settings, &args, &work, journal).await
}

/// What the command line makes of the sources: a replay of its own, or one that goes on.
fn work<'s>(sources: &'s [Source], args: &Replay, goes_on: Option<&JournalHeader>) -> Result<Work<'s>> {
    let options = Options {
        speed: args.speed,
        repeat: args.repeat,
        concurrency: args.concurrency.into(),
        fresh: args.fresh,
        turns: !args.no_turns,
    };
    let mut work = Work::new(sources, options);
    if let Some(header) = goes_on {
        work = work.resuming(&header.id, header.began);
    }
    work.edits.extend(args.set.iter().chain(&args.remove).cloned());
    work.as_is = args.as_is;
    work.takes_turns = args.to.is_none() || args.turns_to.is_some();
    work.faults = Faults {
        shuffle: args.shuffle,
        duplicate: args.duplicate,
        drop: args.drop.unwrap_or(0.0),
        seed: args.seed.unwrap_or_else(|| work.default_seed()),
    };
    if let Some(edit) = work.unused_edit() {
        return Err(Failure::usage(format!("no payload has a place for {}", edit.spelled))
            .hint("see what a payload looks like: callscope samples show tow-truck"));
    }
    let recorded = |payload: &Payload| payload.recorded.as_ref().is_some_and(|recorded| recorded.raw_request.is_some());
    if let Some(source) = sources.iter().find(|source| args.as_is && !source.payloads.iter().all(recorded)) {
        return Err(Failure::usage(format!(
            "{} has no recorded headers, so there is nothing to send as it is",
            source.name
        ))
        .hint("save a delivery with its headers: callscope deliveries show ID -o json > delivery.json"));
    }
    if work.delivery_count() == 0 {
        return Err(Failure::usage("nothing is to be sent: the sources hold only turns, and --to takes none")
            .hint("name the URL that takes them: --turns-to URL"));
    }
    Ok(work)
}

fn sender(settings: &Settings, args: &Replay, secret: Option<Secret>) -> Result<Sender> {
    let target = match &args.to {
        Some(to) => Target::backend(to.clone(), args.turns_to.clone()),
        None => Target::callscope(&settings.server),
    };
    Sender::to(target, secret, args.expect.clone(), args.tamper, settings.console)
}

/// Sends the deliveries that the journal does not list as done.
async fn send(settings: &Settings, args: &Replay, work: &Work<'_>, journal: Journal) -> Result {
    let secret = if args.as_is { None } else { webhook_secret(args.secret_file.as_ref())? };
    if secret.is_none() && args.tamper.is_some() {
        return Err(Failure::usage("without a secret nothing is signed, so there is nothing to tamper with")
            .hint("give the webhook secret: --secret-file FILE, or set CALLSCOPE_WEBHOOK_SECRET"));
    }
    if secret.is_none() && !args.as_is {
        settings.console.warn("no webhook secret was found, so nothing is signed; give it with --secret-file FILE");
    }
    let sender = sender(settings, args, secret)?;
    let ndjson =
        matches!(settings.format, Some(Format::Json | Format::Ndjson)).then(|| settings.output(Format::Ndjson));
    let explicit = args.expect.is_some() || args.tamper.is_some();
    let mut report = Report::new(settings.console, ndjson).with_diff(explicit);
    report.expect(work.delivery_count(), journal.done_count(), work.jobs().len());
    let (report, journal, pace) = (Mutex::new(report), Mutex::new(journal), Pace::new(args.rate));
    let replay = replay::Replay {
        work,
        sender: &sender,
        pace: &pace,
        journal: &journal,
        report: &report,
        console: settings.console,
    };
    let (done, watched, interrupted) = if args.watch {
        let requests = requests(work)?;
        run_with_watch(replay, watch(settings, requests), &pace).await?
    } else {
        run_with_watch(replay, std::future::ready(Ok(Exit::Ok)), &pace).await?
    };
    if let Err(closed) = &done
        && closed.exit == Exit::Ok
    {
        // The reader of stdout closed its pipe.
        lock(&journal).discard();
        return Err(closed.clone());
    }
    lock(&report).summary();
    let shapes = lock(&report).shapes();
    if let Some(shapes) = shapes.filter(|_| done.is_ok() && args.to.is_none() && args.tamper.is_none()) {
        repeats::report(settings, shapes).await;
    }
    if work.faults.is_random() {
        settings.console.say(format!("  --seed {} decides the same again", work.faults.seed));
    }
    let journal = journal.into_inner().map_err(|_| Failure::error("a part of the program failed"))?;
    conclude(settings, work, journal, done, interrupted, || {
        lock(&report).exit(sender.expect())?;
        watched
    })
}

/// Runs the replay and `watch` concurrently. Returns both results, and whether a signal interrupted the replay.
async fn run_with_watch(
    replay: replay::Replay<'_>,
    watch: impl Future<Output = Result>,
    pace: &Pace,
) -> Result<(Result<()>, Result, bool)> {
    let mut signals = Signals::listen()?;
    let (mut running, mut watch) = (pin!(replay.run()), pin!(watch));
    let (mut watched, mut interrupted) = (None, false);
    let done = loop {
        tokio::select! {
            done = &mut running => break done,
            seen = &mut watch, if watched.is_none() => watched = Some(seen),
            _ = signals.next() => {
                interrupted = true;
                pace.stop();
            }
        }
    };
    let watched = match watched {
        Some(watched) => watched,
        None if interrupted || done.is_err() => Ok(Exit::Ok),
        // A call that has not ended by then is not followed further.
        None => tokio::time::timeout(WATCH_TIMEOUT, watch).await.unwrap_or(Ok(Exit::Ok)),
    };
    Ok((done, watched, interrupted))
}

/// Returns the result of `on_complete` if the replay is complete. Otherwise reports where it stopped and how to go on.
fn conclude(
    settings: &Settings,
    work: &Work<'_>,
    mut journal: Journal,
    done: Result<()>,
    interrupted: bool,
    on_complete: impl FnOnce() -> Result,
) -> Result {
    let (sent, total) = (journal.done_count(), work.delivery_count());
    let where_it_stopped = format!("stopped after {sent} of {total} deliveries");
    let command = format!("callscope replay --resume {}", work.id());
    match done {
        Ok(()) if !interrupted || sent >= total => {
            journal.discard();
            on_complete()
        }
        done if !journal.is_resumable() || sent == 0 => {
            journal.discard();
            done.map(|()| {
                settings.console.say(where_it_stopped);
                Exit::Interrupted
            })
        }
        Ok(()) => {
            settings.console.bare(format!("{where_it_stopped}; go on with: {command}"));
            Ok(Exit::Interrupted)
        }
        Err(failure) => {
            let hint = failure.hint.map_or(String::new(), |hint| format!("{hint}; then "));
            Err(Failure { message: format!("{}; {where_it_stopped}", failure.message), hint: None, ..failure }
                .hint(format!("{hint}go on with: {command}")))
        }
    }
}

/// Returns requests that follow every call of the replay.
fn requests(work: &Work<'_>) -> Result<Vec<Request>> {
    let names = work.call_names();
    if names.len() > MAX_WATCHED_CALLS {
        return Err(Failure::usage(format!(
            "--watch follows at most {MAX_WATCHED_CALLS} calls, and these are {}",
            names.len()
        ))
        .hint("leave it out, and pick one afterwards: callscope tail"));
    }
    let request = |name: String| {
        let identifier = Identifier::parse(&name).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
        Ok(Request { identifier, start: Start::First, wait: true, follow: true, reconnect: true })
    };
    names.into_iter().map(request).collect()
}

async fn watch(settings: &Settings, requests: Vec<Request>) -> Result {
    let view = match settings.format {
        Some(Format::Json | Format::Ndjson) => View::Ndjson,
        _ => View::Lines,
    };
    tail::show(settings, requests, &crate::command::tail::Tail::default(), view).await
}
