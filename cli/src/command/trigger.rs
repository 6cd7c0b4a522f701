//! `trigger`: one payload of a type.

use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use callscope_common::json_style;
use clap::Args as ClapArgs;
use url::Url;

use crate::exit::{Exit, Failure, Result};
use crate::payload::{Edit, Payload};
use crate::render::{Format, Safe, Tint, last_argument, shell_word};
use crate::replay::{Report, Source, send_one};
use crate::samples;
use crate::secret::webhook_secret;
use crate::settings::Settings;
use crate::webhook::{Expect, Sender, Tamper, Target, parse_backend_url};

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
pub(crate) struct Trigger {
    /// What happened: a webhook's type, or `turn`
    #[arg(value_name = "EVENT")]
    pub(crate) event: String,
    /// Send it as a type of that name also where the name is not known
    #[arg(long)]
    pub(crate) force: bool,
    /// Put JSON at a place: `data.metadata.cost=7`; what is no JSON is a text
    #[arg(long, value_name = "PATH=JSON", value_parser = Edit::set)]
    pub(crate) set: Vec<Edit>,
    /// Take away what is at a place
    #[arg(long, value_name = "PATH", value_parser = Edit::remove)]
    pub(crate) remove: Vec<Edit>,
    /// Change it in $VISUAL or $EDITOR before it is sent
    #[arg(long)]
    pub(crate) edit: bool,
    /// Print it instead of sending it
    #[arg(long, conflicts_with_all = ["to", "tamper", "expect"])]
    pub(crate) print: bool,
    /// Make it one that is to be refused
    #[arg(long, value_name = "WHAT")]
    pub(crate) tamper: Option<Tamper>,
    /// The answers that are right, such as 2xx or 401,413; any other makes exit code 8 and is shown as a diff
    #[arg(long, value_name = "STATUS")]
    pub(crate) expect: Option<Expect>,
    /// Another backend: the URL that takes it
    #[arg(long, value_name = "URL", value_parser = parse_backend_url)]
    pub(crate) to: Option<Url>,
    /// A file that holds the webhook secret (else CALLSCOPE_WEBHOOK_SECRET(S), else callscope.secrets.toml)
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
}

/// The types of which Callscope makes a call, so that it can be followed.
const MAKES_A_CALL: [&str; 4] = ["post_call_transcription", "call_initiation_failure", "post_call_audio", "turn"];

pub(crate) async fn run(settings: &Settings, args: Trigger) -> Result {
    if !samples::is_known(&args.event) && !args.force {
        let meant = samples::nearest(&args.event, samples::event_names());
        let meant = meant.map_or(String::new(), |name| format!("; did you mean {name}?"));
        return Err(Failure::usage(format!("no event is called {:?}{meant}", args.event))
            .hint(format!("known are {}; to send a type of that name all the same: --force", samples::type_names())));
    }
    let payload = payload(&args)?;
    if args.print {
        // A file gets exactly the bytes that would be sent; a terminal gets a line feed after them.
        let end = Safe::literal(if std::io::stdout().is_terminal() { "\n" } else { "" });
        settings.output(Format::Json).write(&Safe::json(&payload.body).append(&end))?;
        return Ok(Exit::Ok);
    }
    let secret = webhook_secret(args.secret_file.as_ref())?;
    if secret.is_none() {
        if args.tamper.is_some() {
            return Err(Failure::usage("without a secret nothing is signed, so there is nothing to tamper with")
                .hint("give the webhook secret: --secret-file FILE, or set CALLSCOPE_WEBHOOK_SECRET"));
        }
        settings.console.warn("no webhook secret was found, so it is not signed; give it with --secret-file FILE");
    }
    let target = match &args.to {
        Some(to) => Target::backend(to.clone(), Some(to.clone())),
        None => Target::callscope(&settings.server),
    };
    let explicit = args.expect.is_some() || args.tamper.is_some();
    let sender = Sender::to(target, secret, args.expect.clone(), args.tamper, settings.console)?;
    let ndjson =
        matches!(settings.format, Some(Format::Json | Format::Ndjson)).then(|| settings.output(Format::Ndjson));
    let is_reported = ndjson.is_some();
    let report = Mutex::new(Report::new(settings.console, ndjson).with_diff(explicit));
    let name = payload.identifier().unwrap_or_else(|| args.event.clone());
    let source = Source { name, path: None, payloads: vec![payload] };
    let outcome = send_one(&sender, &source, &report).await?;
    if !is_reported {
        settings.output(Format::Text).line(&outcome, Tint::Plain)?;
    }
    let report = report.into_inner().map_err(|_| Failure::error("a part of the program failed"))?;
    let done = report.exit(sender.expect())?;
    let follow =
        || Some(format!("follow the call: callscope tail{} {}", settings.flags.as_ref()?, last_argument(&source.name)));
    let makes_a_call = args.to.is_none() && args.tamper.is_none() && MAKES_A_CALL.iter().any(|kind| source.is(kind));
    if let (true, Some(hint)) = (makes_a_call, follow()) {
        settings.console.say(hint);
    }
    Ok(done)
}

/// Returns the template with the edits of the flags, in the JSON style of ElevenLabs.
fn payload(args: &Trigger) -> Result<Payload> {
    let mut body = samples::template(&args.event)?.body;
    for edit in args.set.iter().chain(&args.remove) {
        body = edit.apply(&body).ok_or_else(|| {
            Failure::usage(format!("a {} has no place for {}", args.event, edit.spelled))
                .hint(format!("see what is there: callscope trigger {} --print", shell_word(&args.event)))
        })?;
    }
    if args.edit {
        body = edit_in_editor(&json_style::write(&body, json_style::INDENTED))?;
    }
    Payload::of(&json_style::write(&body, json_style::WIRE)).map_err(Failure::usage)
}

/// Lets the user edit `body`, and returns the result.
fn edit_in_editor(body: &str) -> Result<String> {
    let folder =
        tempfile::tempdir().map_err(|error| Failure::error(format!("cannot make a temporary folder: {error}")))?;
    let path = folder.path().join("webhook.json");
    fs::write(&path, format!("{body}\n")).map_err(|error| Failure::file("write", &path, &error))?;
    open(&path)?;
    let text = fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))?;
    if text.trim().is_empty() {
        return Err(Failure::error("the editor left nothing to send, so nothing was sent"));
    }
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        // The file is kept, so that a syntax error does not lose the user's changes.
        let kept = folder.keep().join("webhook.json");
        return Err(Failure::error(format!("not JSON: {error}")).hint(format!(
            "it was kept; mend it and send it with: callscope replay {}",
            shell_word(&kept.to_string_lossy())
        )));
    }
    Ok(text.trim().to_owned())
}

/// Runs `$VISUAL` or `$EDITOR`, which may have flags of its own.
fn open(path: &Path) -> Result<()> {
    let set = |name: &str| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".into());
    let done = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status();
    match done {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Failure::error(format!("the editor {editor} failed, so nothing was sent"))
            .hint("name another: EDITOR=nano callscope trigger …")),
        Err(error) => Err(Failure::error(format!("cannot run the editor {editor}: {error}"))),
    }
}
