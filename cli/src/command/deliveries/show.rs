//! `deliveries show`: one delivery, whole.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use callscope_common::api::WholeDelivery;
use callscope_common::json_style;
use callscope_common::protocol::ServerMessage;
use serde_json::value::RawValue;

use super::{call, with_hint};
use crate::api::{Client, Raw};
use crate::exit::{Exit, Failure, Result};
use crate::render::{Format, Safe, format_utc};
use crate::settings::Settings;

/// Longest part of an indented body that is printed for people, in bytes.
const MAX_SHOWN_BYTES: usize = 64 << 10;

/// Returns the body as received; `None` if it is not kept any more.
pub(crate) fn body(delivery: &WholeDelivery) -> Result<Option<Vec<u8>>> {
    let body = delivery.body_base64.as_ref().map(|text| BASE64_STANDARD.decode(text)).transpose();
    body.map_err(|error| Failure::error(format!("the server's answer holds no Base64: {error}")))
}

/// Returns the headers in the order in which they were received.
pub(crate) fn headers(delivery: &WholeDelivery) -> Result<Vec<(String, String)>> {
    delivery.headers().map_err(|error| Failure::error(format!("the delivery's headers are no list: {error}")))
}

pub(crate) async fn fetch(client: &Client, id: &str) -> Result<Raw<WholeDelivery>> {
    client.delivery(id).await.map_err(with_hint)
}

/// Prints a delivery. `only_body` writes the bytes of its body and nothing else.
pub(crate) async fn run(settings: &Settings, client: &Client, id: &str, only_body: bool) -> Result {
    let Raw { json, value: whole } = fetch(client, id).await?;
    let body = body(&whole)?;
    if only_body {
        let body = body.ok_or_else(|| dropped(id))?;
        return settings.output(Format::Text).write_bytes(&body).map(|()| Exit::Ok);
    }
    let mut output = settings.output(Format::Table);
    output.record(&json, &fields(&whole))?;
    if !output.is_json() {
        output.write(&Safe::lines(&people(&whole, body.as_deref())?))?;
    }
    Ok(Exit::Ok)
}

fn dropped(id: &str) -> Failure {
    Failure::not_found(format!("the body of {id} is not kept any more"))
        .hint("CALLSCOPE_DELIVERY_RETENTION_DAYS and CALLSCOPE_DELIVERY_MAX_MB say how much the server keeps")
}

fn fields(whole: &WholeDelivery) -> Vec<(&'static str, String)> {
    let view = &whole.delivery;
    vec![
        ("delivery", view.delivery_id.to_string()),
        ("received", format_utc(view.received_at)),
        ("from", view.remote_addr.clone().unwrap_or_default()),
        ("route", view.route.to_string()),
        ("type", view.kind.clone().unwrap_or_default()),
        ("verdict", view.verdict.to_string()),
        ("reason", view.reason.clone().unwrap_or_default()),
        ("repeats", whole.duplicate_of.map(|id| id.to_string()).unwrap_or_default()),
        ("call", call(view)),
        ("call id", view.call_id.map(|id| id.to_string()).unwrap_or_default()),
        ("answer", format!("{} {}", view.response_status, whole.response)),
        ("bytes", view.body_bytes.to_string()),
    ]
}

/// Headers, events and body, for people.
fn people(whole: &WholeDelivery, body: Option<&[u8]>) -> Result<String> {
    let mut shown = String::from("\nheaders\n");
    for (name, value) in headers(whole)? {
        shown.push_str(&format!("  {}\n", Safe::line(&format!("{name}: {value}")).as_str()));
    }
    shown.push_str(if whole.events.is_empty() { "\nchanged nothing in the log\n" } else { "\nevents\n" });
    for event in &whole.events {
        shown.push_str(&format!("  {}\n", Safe::line(&event_line(event)).as_str()));
    }
    shown.push_str("\nbody\n");
    let Some(body) = body else { return Ok(shown + "  (not kept any more)\n") };
    let Ok(whole_text) = std::str::from_utf8(body) else {
        return Ok(shown + "  (not UTF-8; --body prints the bytes)\n");
    };
    let is_json = serde_json::from_str::<&RawValue>(whole_text).is_ok();
    let indented = if is_json { json_style::write(whole_text, json_style::INDENTED) } else { whole_text.to_owned() };
    let end = indented.floor_char_boundary(MAX_SHOWN_BYTES);
    for line in Safe::lines(&indented[..end]).as_str().lines() {
        shown.push_str(&format!("  {line}\n"));
    }
    if end < indented.len() {
        shown.push_str("  … (--body prints all of it)\n");
    }
    Ok(shown)
}

fn event_line(event: &RawValue) -> String {
    match ServerMessage::parse(event.get()) {
        Ok(ServerMessage::Transcription(turn)) => {
            format!("{}  transcription  {}: {}", turn.seq, turn.speaker_type, turn.message_text)
        }
        Ok(ServerMessage::CallStatus(status)) => format!("{}  call_status  {}", status.seq, status.status),
        Ok(ServerMessage::CallCompleted(end)) => format!("{}  call_completed  {}", end.seq, end.call_data.status),
        _ => event.get().to_owned(),
    }
}
