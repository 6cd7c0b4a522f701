//! `samples`: the payloads shipped, and the user's own.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use callscope_common::json_style;
use clap::Subcommand;
use serde_json::json;
use serde_json::value::to_raw_value;

use crate::exit::{Exit, Failure, Result};
use crate::payload::FreshNames;
use crate::render::{Format, Safe, last_argument};
use crate::replay;
use crate::samples::{self, Level, Remark};
use crate::settings::Settings;

/// `samples`.
#[derive(Debug, Subcommand)]
pub(crate) enum Samples {
    /// List the samples by name
    Ls,
    /// Print a sample
    Show {
        /// Name of the sample
        #[arg(add = super::complete::samples())]
        name: String,
    },
    /// A payload of your own to begin with: a shipped sample or a type, under new names and with times that begin now
    New {
        /// A sample's name, or a type such as post_call_transcription or turn
        template: String,
        /// Where to; it must not be there yet [default: stdout]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Say what is wrong with payloads, and what is merely unknown; exit code 8 where something is wrong
    Validate {
        /// Files, folders of *.json and *.ndjson, shipped samples, or `-` for stdin
        #[arg(required = true, value_name = "FILE|DIR|SAMPLE")]
        sources: Vec<String>,
    },
}

pub(crate) fn run(settings: &Settings, args: &Samples) -> Result {
    match args {
        Samples::Ls => ls(settings),
        Samples::Show { name } => {
            let sample = samples::find(name).ok_or_else(|| {
                Failure::not_found(samples::with_suggestion(format!("no sample is called {name}"), name))
                    .hint("see their names: callscope samples ls")
            })?;
            // Always JSON, since it is a JSON payload: the same that `replay` sends.
            settings.output(Format::Json).write(&Safe::json(sample.text))?;
            Ok(Exit::Ok)
        }
        Samples::New { template, file } => new(settings, template, file.as_deref()),
        Samples::Validate { sources } => validate(settings, sources),
    }
}

fn ls(settings: &Settings) -> Result {
    let all = samples::all();
    let rows: Vec<_> =
        all.iter().map(|sample| vec![sample.name.to_owned(), sample.kind.clone(), sample.title.clone()]).collect();
    let items = all
        .iter()
        .map(|sample| to_raw_value(&json!({"name": sample.name, "kind": sample.kind, "title": sample.title})))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    settings.output(Format::Table).list("samples", &items, &["NAME", "KIND", "TITLE"], &rows)?;
    Ok(Exit::Ok)
}

fn new(settings: &Settings, template: &str, file: Option<&Path>) -> Result {
    let payloads = match samples::find(template) {
        Some(sample) => {
            let source = replay::from_text(sample.name.into(), sample.text)?;
            FreshNames::of(&source.payloads).rewrite(&source.payloads)
        }
        None if samples::is_known(template) => vec![samples::template(template)?],
        None => {
            let what = format!("{template} is neither a sample nor a known type");
            let event = samples::nearest(template, samples::event_names());
            let what = event.map_or_else(
                || samples::with_suggestion(what.clone(), template),
                |event| format!("{what}; did you mean {event}?"),
            );
            return Err(Failure::not_found(what)
                .hint(format!("see the samples: callscope samples ls; the types are {}", samples::type_names())));
        }
    };
    let bodies: Vec<&str> = payloads.iter().map(|payload| payload.body.as_str()).collect();
    let whole = if let [one] = bodies[..] { one.to_owned() } else { format!("[{}]", bodies.join(",")) };
    let pretty = format!("{}\n", json_style::write(&whole, json_style::INDENTED));
    let Some(path) = file else {
        settings.output(Format::Json).write(&Safe::json(&pretty))?;
        return Ok(Exit::Ok);
    };
    let mut file =
        OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
            Failure::file("make", path, &error).hint("nothing was overwritten; give it another name")
        })?;
    file.write_all(pretty.as_bytes()).map_err(|error| Failure::file("write", path, &error))?;
    let word = last_argument(&path.to_string_lossy());
    settings
        .console
        .say(format!("edit {}, then: callscope samples validate {word} && callscope replay {word}", path.display()));
    Ok(Exit::Ok)
}

fn validate(settings: &Settings, sources: &[String]) -> Result {
    let stdin = if sources.iter().any(|name| name == "-") { Some(replay::read_stdin()?) } else { None };
    let mut output = settings.output(Format::Text);
    let (mut payloads, mut wrong, mut unknown) = (0_usize, 0_usize, 0_usize);
    for (name, body) in replay::bodies(sources, stdin.as_deref())? {
        payloads += 1;
        for remark in samples::validate(&body) {
            match remark.level {
                Level::Refused | Level::Wrong => wrong += 1,
                Level::Unknown => unknown += 1,
            }
            let line = if output.is_json() { json_line(&name, &remark)? } else { line(&name, &remark) };
            output.write(&line)?;
        }
    }
    let counted = if payloads == 1 { "payload" } else { "payloads" };
    let said = format!("{payloads} {counted}: {wrong} wrong, {unknown} unknown");
    if wrong > 0 {
        return Err(Failure::new(Exit::CheckFailed, said));
    }
    settings.console.say(said);
    Ok(Exit::Ok)
}

fn line(name: &str, Remark { level, path, what }: &Remark) -> Safe {
    let path = if path.is_empty() { String::new() } else { format!(" {path}") };
    Safe::line(&format!("{name}: {}{path}: {what}", word(*level))).with_newline()
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Refused => "refused",
        Level::Wrong => "wrong",
        Level::Unknown => "unknown",
    }
}

fn json_line(name: &str, Remark { level, path, what }: &Remark) -> Result<Safe> {
    let line = json!({"source": name, "level": word(*level), "path": path, "message": what});
    let line = serde_json::to_string(&line)?;
    Ok(Safe::json_line(&line))
}
