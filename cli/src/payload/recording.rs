//! Reads recordings as payloads: the deliveries of `deliveries show -o json` and `deliveries export`, and the streams
//! of `tail --save`.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use callscope_common::Timestamp;
use callscope_common::json::{self, Object};
use serde_json::json;
use serde_json::value::RawValue;

use super::{Kind, Payload, RawRequest, Recorded};

/// The payloads of a recording, or what is wrong with it.
type ReadResult = Result<Vec<Payload>, String>;

/// Reads a recording, or a payload from each line; `None` if `text` is neither.
pub(crate) fn read(text: &str) -> Option<ReadResult> {
    if let Ok(document) = serde_json::from_str::<&RawValue>(text) {
        let items = match json::object(document) {
            Some(object) if object.get("deliveries").is_some() => object.array("deliveries"),
            Some(_) => vec![document],
            None => json::array(document),
        };
        let deliveries: Vec<_> = items.iter().filter_map(|item| json::object(item).filter(is_delivery)).collect();
        if deliveries.is_empty() && items.iter().any(|item| is_stream_message(item)) {
            return Some(read_stream(&items));
        }
        return (!deliveries.is_empty()).then(|| read_deliveries(&deliveries));
    }
    read_lines(text)
}

/// Reads NDJSON; `None` if `text` is not NDJSON.
fn read_lines(text: &str) -> Option<ReadResult> {
    let mut items: Vec<(usize, &RawValue)> = Vec::new();
    let mut broken = None;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str::<&RawValue>(line) {
            Ok(item) => items.push((number + 1, item)),
            // Only the last line may be incomplete, in a recording that was cut off.
            Err(_) if broken.is_none() && !items.is_empty() => broken = Some(number + 1),
            Err(_) => return None,
        }
    }
    if let Some(number) = broken
        && items.last().is_some_and(|(last, _)| *last > number)
    {
        return None;
    }
    if items.len() < 2 && broken.is_none() {
        return None;
    }
    let raw: Vec<&RawValue> = items.iter().map(|(_, item)| *item).collect();
    if raw.iter().any(|item| is_stream_message(item)) {
        return Some(read_stream(&raw));
    }
    let payloads = items.iter().map(|(number, item)| {
        let read = match json::object(item).filter(is_delivery) {
            Some(delivery) => delivery_payload(&delivery),
            None => Payload::of(item.get()),
        };
        read.map_err(|why| format!("line {number}: {why}"))
    });
    Some(payloads.collect::<ReadResult>().map(sort_by_receipt))
}

fn is_delivery(object: &Object<'_>) -> bool {
    object.has("headers") && (object.has("body_base64") || object.has("body"))
}

fn read_deliveries(deliveries: &[Object<'_>]) -> ReadResult {
    deliveries.iter().map(delivery_payload).collect::<ReadResult>().map(sort_by_receipt)
}

/// Sorts deliveries by the time of receipt, if each has one. Lists of deliveries begin with the newest.
fn sort_by_receipt(mut payloads: Vec<Payload>) -> Vec<Payload> {
    if payloads.iter().all(|payload| payload.recorded.as_ref().is_some_and(|recorded| recorded.at.is_some())) {
        payloads.sort_by_key(|payload| payload.recorded.as_ref().and_then(|recorded| recorded.at));
    }
    payloads
}

fn delivery_payload(delivery: &Object<'_>) -> Result<Payload, String> {
    let bytes = match delivery.string("body_base64") {
        Some(encoded) => {
            BASE64_STANDARD.decode(encoded.trim()).map_err(|_| "`body_base64` is not Base64".to_owned())?
        }
        None => delivery.string("body").ok_or("a delivery whose bytes are no longer kept")?.into_bytes(),
    };
    let at = delivery.string("received_at").and_then(|at| Timestamp::parse_rfc3339(&at));
    let is_turn = delivery.string("route").as_deref() == Some("transcription");
    // A delivery that the server refused may hold anything. Its bytes can still be sent as they came.
    let (body, kind) = match std::str::from_utf8(&bytes).ok().map(|text| (text, Payload::of(text))) {
        Some((_, Ok(payload))) => (payload.body, payload.kind),
        Some((text, Err(_))) => (text.to_owned(), Kind::PostCall("unreadable".into())),
        None => (String::new(), Kind::PostCall("unreadable".into())),
    };
    let kind = if is_turn { Kind::Turn } else { kind };
    let headers = read_headers(delivery.get("headers"));
    Ok(Payload { body, kind, recorded: Some(Recorded { at, raw_request: Some(RawRequest { headers, bytes }) }) })
}

/// Reads headers that are written as pairs, as objects of name and value, or as one object.
fn read_headers(value: Option<&RawValue>) -> Vec<(String, String)> {
    let Some(value) = value else { return Vec::new() };
    if let Ok(map) = serde_json::from_str::<BTreeMap<String, String>>(value.get()) {
        return map.into_iter().collect();
    }
    let pair = |item: &RawValue| match json::object(item) {
        Some(object) => Some((object.string("name")?, object.string("value")?)),
        None => serde_json::from_str::<(String, String)>(item.get()).ok(),
    };
    json::array(value).into_iter().filter_map(pair).collect()
}

/// Whether `item` is a message of a stream that `tail --save` wrote.
fn is_stream_message(item: &RawValue) -> bool {
    let kinds = ["subscription_confirmed", "transcription", "call_status", "call_completed"];
    json::object(item).is_some_and(|message| {
        message.string("type").is_some_and(|kind| kinds.contains(&kind.as_str())) && message.get("data").is_none()
    })
}

/// A call of a recorded stream.
#[derive(Default)]
struct Call {
    conversation_id: Option<String>,
    /// The turns in the provider's format, for the webhook at the end of the call.
    transcript: Vec<serde_json::Value>,
    began: Option<Timestamp>,
    last: Option<Timestamp>,
    seq: i64,
}

/// Turns a recorded stream back into the webhooks that caused its turns and the ends of its calls.
fn read_stream(items: &[&RawValue]) -> ReadResult {
    let mut calls: HashMap<String, Call> = HashMap::new();
    let mut payloads = Vec::new();
    for item in items {
        let Some(message) = json::object(item) else { continue };
        let Some(sid) = message.string("call_sid") else { continue };
        let call = calls.entry(sid.clone()).or_default();
        call.conversation_id = message.string("conversation_id").or(call.conversation_id.take());
        let seq = message.integer("seq").unwrap_or(0);
        match message.string("type").as_deref() {
            // A resumed stream may repeat events, which the seq shows.
            Some("transcription") if seq > call.seq => {
                call.seq = seq;
                payloads.extend(turn(call, &sid, &message));
            }
            Some("call_completed") if seq > call.seq => {
                call.seq = seq;
                payloads.extend(ending(call, &message)?);
            }
            _ => {}
        }
    }
    if payloads.is_empty() {
        return Err("a recorded stream without a turn or the end of a call".into());
    }
    Ok(payloads)
}

fn turn(call: &mut Call, sid: &str, message: &Object<'_>) -> Option<Payload> {
    let (speaker, text) = (message.string("speaker_type")?, message.text("message_text")?);
    let at = message.string("timestamp").and_then(|at| Timestamp::parse_rfc3339(&at));
    call.began = call.began.or(at);
    call.last = at.or(call.last);
    let secs = call.began.zip(call.last).map_or(0.0, |(began, last)| last.secs_since(began));
    call.transcript.push(json!({"role": speaker, "message": text, "time_in_call_secs": secs.round(),
        "tool_calls": [], "tool_results": []}));
    let mut body = json!({"call_sid": sid, "speaker": speaker, "message": text, "turn_id": format!("s{}", call.seq)});
    if let Some(conversation) = &call.conversation_id {
        body["conversation_id"] = conversation.as_str().into();
    }
    if let Some(at) = at {
        body["timestamp"] = at.to_string().into();
    }
    Some(Payload { body: body.to_string(), kind: Kind::Turn, recorded: Some(Recorded { at, raw_request: None }) })
}

/// Returns the post-call webhook, as far as the stream contains its data; `None` without a conversation id.
fn ending(call: &mut Call, message: &Object<'_>) -> Result<Option<Payload>, String> {
    let Some(conversation) = &call.conversation_id else { return Ok(None) };
    let data = message.object("call_data").unwrap_or_default();
    let value = |key: &str| data.get(key).and_then(|raw| serde_json::from_str::<serde_json::Value>(raw.get()).ok());
    let time = |key: &str| data.string(key).and_then(|at| Timestamp::parse_rfc3339(&at));
    let failed = data.string("status").as_deref() == Some("failed");
    let at = time("call_end_time").or(call.last);
    let mut inner = json!({"conversation_id": conversation, "metadata": value("metadata").unwrap_or(json!({}))});
    let kind = if failed && call.transcript.is_empty() {
        inner["failure_reason"] = value("failure_reason").unwrap_or(json!("unknown"));
        "call_initiation_failure"
    } else {
        inner["status"] = if failed { "failed" } else { "done" }.into();
        inner["transcript"] = std::mem::take(&mut call.transcript).into();
        if let Some(analysis) = value("analysis_data") {
            inner["analysis"] = analysis;
        }
        let metadata = &mut inner["metadata"];
        for (key, known) in [("call_duration_secs", value("duration_seconds")), ("cost", value("cost"))] {
            if metadata.get(key).is_none() {
                metadata[key] = known.unwrap_or_default();
            }
        }
        if metadata.get("start_time_unix_secs").is_none() {
            metadata["start_time_unix_secs"] =
                time("call_start_time").or(call.began).map(Timestamp::as_unix_secs).into();
        }
        "post_call_transcription"
    };
    let envelope = json!({"type": kind, "event_timestamp": at.map(Timestamp::as_unix_secs), "data": inner});
    let recorded = Some(Recorded { at, raw_request: None });
    Ok(Some(Payload { body: envelope.to_string(), kind: Kind::PostCall(kind.into()), recorded }))
}

#[cfg(test)]
#[path = "recording_tests.rs"]
mod tests;
