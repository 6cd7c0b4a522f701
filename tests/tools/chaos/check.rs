//! Holds the logs against what was acknowledged, and the subscribers against the logs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use callscope_common::api::EventList;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use crate::book::CallBook;
use crate::evidence::{Evidence, Wrong};
use crate::plan::Shape;
use crate::track::{Track, fingerprint};
use crate::world::World;

/// Events asked for at once.
const PAGE: usize = 500;
/// Tries of one request; nothing is broken any more.
const TRIES: usize = 200;

/// A call's log as the API shows it.
#[derive(Debug)]
pub struct Log {
    /// The call's own id.
    pub call_id: callscope_common::CallId,
    /// As the subscribers should have got them.
    pub frames: Vec<String>,
}

/// An event, as far as the checker reads it.
#[derive(Debug, Deserialize)]
struct Event {
    r#type: String,
    seq: i64,
    sequence_number: Option<i64>,
    transcription_id: Option<i64>,
    message_text: Option<String>,
    status: Option<String>,
    call_data: Option<Value>,
}

/// Fetches a call's log; `None` where no server gives it.
pub async fn fetch(world: &World, name: &str) -> Option<Log> {
    let call: Value = get(world, &format!("calls/{name}")).await?;
    let call_id: callscope_common::CallId = call["call_id"].as_str()?.parse().ok()?;
    let mut frames: Vec<String> = Vec::new();
    loop {
        let page: EventList =
            get(world, &format!("calls/{name}/events?after={}&call_id={call_id}&limit={PAGE}", frames.len())).await?;
        let is_last = page.events.is_empty();
        frames.extend(page.events.iter().map(|event| event.get().to_owned()));
        if is_last || i64::try_from(frames.len()).is_ok_and(|count| count >= page.head) {
            return Some(Log { call_id, frames });
        }
    }
}

async fn get<T: serde::de::DeserializeOwned>(world: &World, path: &str) -> Option<T> {
    for attempt in 0..TRIES {
        let node = &world.nodes[attempt % world.nodes.len()];
        let request = world.http.get(format!("http://{}/api/v1/{path}", node.address)).bearer_auth(&world.token);
        if let Ok(response) = request.send().await {
            let status = response.status().as_u16();
            if let (200, Ok(body)) = (status, response.bytes().await) {
                return serde_json::from_slice(&body).ok();
            }
            if status == 404 {
                return None;
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    None
}

/// Checks one call's log; returns it.
pub async fn check_call(world: &World, call: &Arc<CallBook>) -> Option<Log> {
    let evidence = &world.book.evidence;
    let known = call.known();
    let Some(log) = fetch(world, known.first()?).await else {
        evidence.add(Wrong::Missing, || format!("c{} has no log under its name {}", call.plan.index, known[0]));
        return None;
    };
    for name in &known[1..] {
        let call_id =
            get::<Value>(world, &format!("calls/{name}")).await.and_then(|call| call["call_id"].as_str()?.parse().ok());
        if call_id != Some(log.call_id) && call.has_ended() {
            evidence.add(Wrong::Missing, || {
                format!("c{}: {name} leads to {call_id:?}, {} to {}", call.plan.index, known[0], log.call_id)
            });
        }
    }
    check_log(call, &log, evidence);
    Some(log)
}

fn check_log(call: &CallBook, log: &Log, evidence: &Evidence) {
    let index = call.plan.index;
    let mut sent = call.all();
    let (mut turns, mut moved, mut statuses, mut last_moved) = (0, 0, 0, 0);
    let mut seen: HashMap<String, i64> = HashMap::new();
    for (at, frame) in (1_i64..).zip(&log.frames) {
        let Ok(event) = serde_json::from_str::<Event>(frame) else {
            evidence.add(Wrong::Altered, || format!("c{index}: no event: {frame:.200}"));
            continue;
        };
        if event.seq != at {
            evidence.add(Wrong::Lost, || format!("c{index}: the log has a hole: {at} is {frame:.200}"));
        }
        let text = match event.r#type.as_str() {
            "transcription" => {
                turns += 1;
                if event.sequence_number != Some(turns) {
                    evidence.add(Wrong::Misplaced, || format!("c{index}: not turn number {turns}: {frame:.300}"));
                }
                event.message_text.clone().unwrap_or_default()
            }
            "call_completed" => {
                let summary = event.call_data.as_ref().and_then(|data| data["transcript_summary"].as_str());
                summary.unwrap_or_default().to_owned()
            }
            _ => {
                statuses += i64::from(event.status.as_deref() == Some("completed"));
                continue;
            }
        };
        if let Some(before) = seen.insert(text.clone(), at) {
            evidence
                .add(Wrong::Doubled, || format!("c{index}: the log holds it at {before} and at {at}: {frame:.300}"));
            continue;
        }
        match sent.remove(&text) {
            Some(sent) => {
                if let Some(acknowledged) = sent.acknowledged.filter(|_| event.r#type == "transcription") {
                    let said = |field: &str| acknowledged.json[field].as_i64();
                    let is_there = (said("seq"), said("sequence_number"), said("transcription_id"))
                        == (Some(at), Some(turns), event.transcription_id);
                    // What a merge appended keeps its order behind what was there.
                    let may_move = call.plan.shape == Shape::TwoNames && said("seq") > Some(last_moved);
                    if !is_there && may_move {
                        moved += 1;
                        last_moved = said("seq").unwrap_or_default();
                    } else if !is_there {
                        evidence.add(Wrong::Misplaced, || {
                            format!("c{index}: answered {}, found as {frame:.300}", acknowledged.json)
                        });
                    }
                }
            }
            None if is_providers_turn(call, &text) => {}
            None => evidence.add(Wrong::Alien, || format!("c{index}: never sent: {frame:.300}")),
        }
    }
    if statuses > 1 {
        evidence.add(Wrong::Doubled, || format!("c{index}: {statuses} times completed, {moved} events moved"));
    }
    if call.plan.shape == Shape::ProviderTurns && call.has_ended() && seen.len() != call.plan.turns.len() + 1 {
        evidence.add(Wrong::Missing, || format!("c{index}: {} of the provider's turns", call.plan.turns.len()));
    }
    for (text, sent) in sent {
        if let Some(acknowledged) = sent.acknowledged {
            evidence.add(Wrong::Missing, || {
                format!("c{index} as {}: {text:.60}: answered {} {}", sent.name, acknowledged.status, acknowledged.json)
            });
        }
    }
}

fn is_providers_turn(call: &CallBook, text: &str) -> bool {
    call.plan.shape == Shape::ProviderTurns && call.plan.turns.iter().any(|turn| turn.text == text)
}

/// Checks what one subscription got.
pub fn check_track(track: &Track, log: &Log, evidence: &Evidence) {
    let head = i64::try_from(log.frames.len()).unwrap_or(i64::MAX);
    let Some(base) = track.base else {
        evidence.add(Wrong::Lost, || format!("{track}: was never confirmed"));
        return;
    };
    let got: HashMap<i64, u64> = track.got.iter().copied().collect();
    for seq in base + 1..=head {
        let frame = usize::try_from(seq - 1).ok().and_then(|at| log.frames.get(at));
        match (got.get(&seq), frame) {
            (Some(got), Some(frame)) if *got != fingerprint(frame) => {
                evidence.add(Wrong::Altered, || format!("{track}: got another seq {seq} than {frame:.300}"));
                return;
            }
            (None, Some(frame)) => {
                evidence.add(Wrong::Lost, || format!("{track}: never got seq {seq} of {head}: {frame:.300}"));
                return;
            }
            _ => {}
        }
    }
    if track.last > head {
        evidence.add(Wrong::Missing, || format!("{track}: got more than the log holds, which ends at {head}"));
    }
    if track.life.is_some_and(|life| life != log.call_id) {
        evidence.add(Wrong::Altered, || format!("{track}: its cursor is of another life than {}", log.call_id));
    }
}
