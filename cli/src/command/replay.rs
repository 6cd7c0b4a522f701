//! `replay`: payloads back into signed webhooks.

use std::fmt::Write as _;
use std::sync::Mutex;

use crate::args::{Format, Replay};
use crate::exit::{Exit, Failure, Result};
use crate::output::{json_for_terminal, shell_word};
use crate::replay::{self, Courier, Fresh, Options, Report, Source};
use crate::secret::webhook_secret;
use crate::settings::Settings;

/// Runs it.
pub async fn run(settings: &Settings, args: Replay) -> Result {
    let sources = replay::load(&args.sources)?;
    let options = Options {
        speed: args.speed,
        repeat: args.repeat,
        concurrency: args.concurrency.into(),
        fresh: args.fresh,
        turns: !args.no_turns,
    };
    if args.dry_run {
        let courier = Courier::new(&settings.server, None, None, settings.console)?;
        settings.output(Format::Text).write(&curl(&sources, &options, &courier))?;
        return Ok(Exit::Ok);
    }
    let secret = webhook_secret(args.secret_file.as_ref())?;
    if secret.is_none() {
        settings.console.warn("no webhook secret was found, so nothing is signed; give it with --secret-file FILE");
    }
    let explicit = args.expect.is_some();
    let courier = Courier::new(&settings.server, secret, args.expect, settings.console)?;
    let ndjson =
        matches!(settings.format, Some(Format::Json | Format::Ndjson)).then(|| settings.output(Format::Ndjson));
    let report = Mutex::new(Report::new(settings.console, ndjson));
    let done = replay::run(&sources, &options, &courier, &report, settings.console).await;
    let mut report = report.into_inner().map_err(|_| Failure::error("a part of the program failed"))?;
    report.summary();
    done.and_then(|()| report.exit(explicit))
}

/// The same requests as commands for a shell, with a placeholder for the signature.
fn curl(sources: &[Source], options: &Options, courier: &Courier) -> String {
    let fresh = options.fresh.then(|| Fresh::of(sources.iter().flat_map(|source| &source.payloads)));
    let mut commands = String::new();
    for source in sources {
        for step in replay::script(source, fresh.as_ref(), options).steps {
            let at = step.at;
            let delivery = step.deliver();
            let body = String::from_utf8_lossy(&delivery.body);
            // A payload that is a whole file is sent from there: a command line has no room for a recording.
            let whole = source
                .path
                .as_ref()
                .filter(|_| source.payloads.len() == 1 && fresh.is_none() && delivery.kind != "turn");
            let data = match whole {
                Some(path) => format!("--data-binary {}", shell_word(&format!("@{}", path.display()))),
                None => format!("--data-raw {}", shell_word(&json_for_terminal(&body))),
            };
            let key =
                delivery.idempotency_key.as_ref().map_or(String::new(), |key| format!(" -H 'Idempotency-Key: {key}'"));
            let _ = writeln!(
                commands,
                "# {} at {at:.0} s: {}\ncurl -sS -H 'Content-Type: application/json' \
                 -H 'ElevenLabs-Signature: t=UNIX_SECONDS,v0=HMAC_SHA256'{key} {data} {}",
                shell_word(&source.name),
                delivery.kind,
                shell_word(courier.url(&delivery).as_str()),
            );
        }
    }
    commands
}
