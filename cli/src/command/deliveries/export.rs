//! `deliveries export`: writes received deliveries as fixtures.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use callscope_common::Timestamp;
use callscope_common::api::{Verdict, WholeDelivery};
use serde::Serialize;
use serde_json::value::RawValue;

use super::fetch_matching;
use super::show::{self, fetch};
use crate::api::{Client, Raw};
use crate::command::calls::check_list_size;
use crate::command::deliveries::Export;
use crate::exit::{Exit, Failure, Result};
use crate::redact::Redactor;
use crate::render::{Format, Safe, last_argument};
use crate::settings::Settings;

/// The only headers that `--redact` keeps.
const KEPT_HEADERS: [&str; 2] = ["content-type", "user-agent"];

/// A delivery to be written.
struct Fixture {
    kind: String,
    id: String,
    body: Vec<u8>,
    line: Box<RawValue>,
}

/// The line of a delivery whose body was redacted.
#[derive(Serialize)]
struct Redacted<'d> {
    delivery_id: &'d str,
    route: &'d str,
    kind: Option<&'d str>,
    verdict: &'d str,
    received_at: Timestamp,
    response_status: i64,
    redacted: bool,
    headers: Vec<&'d (String, String)>,
    body: &'d str,
    body_base64: String,
}

pub(crate) async fn run(settings: &Settings, client: &Client, args: Export) -> Result {
    if args.which.verdict == Some(Verdict::Unverified) {
        return Err(Failure::usage("nothing is kept of attempts that did not verify, so there is nothing to export"));
    }
    let (ids, has_more) = if args.ids.is_empty() {
        let (deliveries, has_more) = fetch_matching(client, &args.which, args.limit).await?;
        // The list is newest first, and fixtures are written oldest first.
        (deliveries.iter().rev().map(|delivery| delivery.value.delivery_id.to_string()).collect(), has_more)
    } else {
        (args.ids.clone(), false)
    };
    let mut redactor = Redactor::new(args.redact, args.redact_field.clone());
    let mut output = settings.output(Format::Ndjson);
    let as_document = output.format == Format::Json;
    if let Some(dir) = &args.dir {
        fs::create_dir_all(dir).map_err(|error| Failure::file("make the folder", dir, &error))?;
    }
    let (mut count, mut lines) = (0_usize, Vec::new());
    for id in &ids {
        settings.console.progress(&format!("{count} of {} deliveries", ids.len()));
        let fixture = match fixture(fetch(client, id).await?, &mut redactor, args.redact)? {
            Ok(fixture) => fixture,
            Err(why) => {
                settings.console.warn(format!("{id} is left out: {why}"));
                continue;
            }
        };
        count += 1;
        match &args.dir {
            Some(dir) => write(dir, count, &fixture)?,
            None if as_document => {
                lines.push(fixture.line);
                check_list_size(&lines)?;
            }
            None => output.write(&Safe::json_line(fixture.line.get()))?,
        }
    }
    settings.console.progress("");
    if as_document && args.dir.is_none() {
        output.list("deliveries", &lines, &[], &[])?;
    }
    say(settings, &args, &redactor, count, has_more);
    Ok(Exit::Ok)
}

fn say(settings: &Settings, args: &Export, redactor: &Redactor, count: usize, has_more: bool) {
    for path in redactor.unused() {
        settings.console.warn(format!("--redact-field {path} names nothing in these deliveries"));
    }
    let what = if count == 1 { "1 delivery".to_owned() } else { format!("{count} deliveries") };
    match &args.dir {
        Some(dir) => {
            let dir = dir.to_string_lossy();
            settings.console.say(format!("wrote {what} to {dir}; send them: callscope replay {}", last_argument(&dir)));
        }
        None => settings.console.say(format!("exported {what}")),
    }
    if has_more {
        settings.console.say(format!("there are more: --limit {}", args.limit.saturating_mul(2)));
    }
    if args.redact {
        settings.console.say(
            "names are found in texts where the payload also holds them in a name field; look it through before you share it",
        );
    }
}

/// Makes the fixture of a delivery. The inner error says why the delivery is left out. `drop_headers` is `--redact`.
fn fixture(
    Raw { json, value: whole }: Raw<WholeDelivery>,
    redactor: &mut Redactor,
    drop_headers: bool,
) -> Result<std::result::Result<Fixture, String>> {
    let view = &whole.delivery;
    let Some(body) = show::body(&whole)? else { return Ok(Err("its body is not kept any more".into())) };
    let (kind, id) = (view.kind.clone().unwrap_or_else(|| view.route.to_string()), view.delivery_id.to_string());
    if redactor.is_noop() {
        return Ok(Ok(Fixture { kind, id, body, line: json }));
    }
    let redacted = match std::str::from_utf8(&body) {
        Ok(text) => redactor.document(text),
        Err(_) => Err("it is not UTF-8".into()),
    };
    let body = match redacted {
        Ok(text) => text,
        Err(why) => return Ok(Err(format!("nothing can be redacted in it, {why}"))),
    };
    let keeps = |name: &str| !drop_headers || KEPT_HEADERS.iter().any(|kept| name.eq_ignore_ascii_case(kept));
    // The signature does not fit the redacted body, so it is left out.
    let is_signature = |name: &str| name.eq_ignore_ascii_case(callscope_common::signature::HEADER);
    let headers = show::headers(&whole)?;
    let headers: Vec<_> = headers.iter().filter(|(name, _)| keeps(name) && !is_signature(name)).collect();
    let line = Redacted {
        delivery_id: &id,
        route: view.route.as_str(),
        kind: view.kind.as_deref(),
        verdict: view.verdict.as_str(),
        received_at: view.received_at,
        response_status: view.response_status,
        redacted: true,
        headers,
        body: &body,
        body_base64: BASE64_STANDARD.encode(&body),
    };
    let line = serde_json::value::to_raw_value(&line)?;
    Ok(Ok(Fixture { kind, id, body: body.into_bytes(), line }))
}

/// Writes the body to a new file in `dir`. An existing file is an error.
fn write(dir: &Path, number: usize, fixture: &Fixture) -> Result<()> {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    let kind: String = fixture.kind.chars().take(40).map(safe).collect();
    let is_json = serde_json::from_slice::<&RawValue>(&fixture.body).is_ok();
    let name = format!("{number:04}-{kind}-{}.{}", fixture.id, if is_json { "json" } else { "bin" });
    let path = dir.join(name);
    let written = File::create_new(&path).and_then(|mut file| file.write_all(&fixture.body));
    written.map_err(|error| Failure::file("write", &path, &error).hint("name another folder with --dir"))
}
