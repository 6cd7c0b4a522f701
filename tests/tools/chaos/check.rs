//! Compares the logs with what was acknowledged, and what subscribers received with the logs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use callscope_common::api::EventList;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::ledger::CallLedger;
use crate::plan::Shape;
use crate::subscription::{Subscription, fingerprint};
use crate::violations::{Violation, Violations};

/// Events in one request.
const PAGE: usize = 500;
/// Tries of one request, at a time when nothing is broken any more.
const TRIES: usize = 200;

/// A call's log as the API shows it.
#[derive(Debug)]
pub struct Log {
    pub call_id: callscope_common::CallId,
    /// The messages that subscribers should have received.
    pub frames: Vec<String>,
}

/// The fields of an event that are checked.
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

/// Fetches a call's log; `None` if no server has it.
pub async fn fetch(cluster: &Cluster, name: &str) -> Option<Log> {
    let call: Value = get(cluster, &format!("calls/{name}")).await?;
    let call_id: callscope_common::CallId = call["call_id"].as_str()?.parse().ok()?;
    let mut frames: Vec<String> = Vec::new();
    loop {
        let page: EventList =
            get(cluster, &format!("calls/{name}/events?after={}&call_id={call_id}&limit={PAGE}", frames.len())).await?;
        let is_last = page.events.is_empty();
        frames.extend(page.events.iter().map(|event| event.get().to_owned()));
        if is_last || i64::try_from(frames.len()).is_ok_and(|count| count >= page.head) {
            return Some(Log { call_id, frames });
        }
    }
}

async fn get<T: serde::de::DeserializeOwned>(cluster: &Cluster, path: &str) -> Option<T> {
    for attempt in 0..TRIES {
        let node = &cluster.nodes[attempt % cluster.nodes.len()];
        let request = cluster.http.get(format!("http://{}/api/v1/{path}", node.address)).bearer_auth(&cluster.token);
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

/// Checks one call's log and returns it.
pub async fn check_call(cluster: &Cluster, call: &Arc<CallLedger>) -> Option<Log> {
    let violations = &cluster.ledger.violations;
    let known = call.known();
    let Some(log) = fetch(cluster, known.first()?).await else {
        violations.add(Violation::Missing, || format!("c{} has no log under its name {}", call.plan.index, known[0]));
        return None;
    };
    for name in &known[1..] {
        let call_id = get::<Value>(cluster, &format!("calls/{name}"))
            .await
            .and_then(|call| call["call_id"].as_str()?.parse().ok());
        if call_id != Some(log.call_id) && call.has_ended() {
            violations.add(Violation::Missing, || {
                format!("c{}: {name} leads to {call_id:?}, {} leads to {}", call.plan.index, known[0], log.call_id)
            });
        }
    }
    check_log(call, &log, violations);
    Some(log)
}

fn check_log(call: &CallLedger, log: &Log, violations: &Violations) {
    let index = call.plan.index;
    let mut sent = call.all();
    let (mut turns, mut moved, mut statuses, mut last_moved) = (0, 0, 0, 0);
    let mut seen: HashMap<String, i64> = HashMap::new();
    for (at, frame) in (1_i64..).zip(&log.frames) {
        let Ok(event) = serde_json::from_str::<Event>(frame) else {
            violations.add(Violation::Altered, || format!("c{index}: this is not an event: {frame:.200}"));
            continue;
        };
        if event.seq != at {
            violations.add(Violation::Lost, || format!("c{index}: the log has a hole: seq {at} is {frame:.200}"));
        }
        let text = match event.r#type.as_str() {
            "transcription" => {
                turns += 1;
                if event.sequence_number != Some(turns) {
                    violations.add(Violation::Misplaced, || {
                        format!("c{index}: this is not turn number {turns}: {frame:.300}")
                    });
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
            violations.add(Violation::Doubled, || {
                format!("c{index}: the log holds this at {before} and at {at}: {frame:.300}")
            });
            continue;
        }
        match sent.remove(&text) {
            Some(sent) => {
                if let Some(acknowledged) = sent.acknowledged.filter(|_| event.r#type == "transcription") {
                    let said = |field: &str| acknowledged.json[field].as_i64();
                    let is_there = (said("seq"), said("sequence_number"), said("transcription_id"))
                        == (Some(at), Some(turns), event.transcription_id);
                    // Events that a merge appended keep their order after those that were there.
                    let may_move = call.plan.shape == Shape::TwoNames && said("seq") > Some(last_moved);
                    if !is_there && may_move {
                        moved += 1;
                        last_moved = said("seq").unwrap_or_default();
                    } else if !is_there {
                        violations.add(Violation::Misplaced, || {
                            format!("c{index}: answered {}, found as {frame:.300}", acknowledged.json)
                        });
                    }
                }
            }
            None if is_providers_turn(call, &text) => {}
            None => violations.add(Violation::Alien, || format!("c{index}: this was never sent: {frame:.300}")),
        }
    }
    if statuses > 1 {
        violations
            .add(Violation::Doubled, || format!("c{index}: completed {statuses} times, with {moved} events moved"));
    }
    if call.plan.shape == Shape::ProviderTurns && call.has_ended() && seen.len() != call.plan.turns.len() + 1 {
        violations.add(Violation::Missing, || {
            format!("c{index}: the log lacks some of the provider's {} turns", call.plan.turns.len())
        });
    }
    for (text, sent) in sent {
        if let Some(acknowledged) = sent.acknowledged {
            violations.add(Violation::Missing, || {
                format!("c{index} as {}: {text:.60}: answered {} {}", sent.name, acknowledged.status, acknowledged.json)
            });
        }
    }
}

fn is_providers_turn(call: &CallLedger, text: &str) -> bool {
    call.plan.shape == Shape::ProviderTurns && call.plan.turns.iter().any(|turn| turn.text == text)
}

/// Checks what one subscription received.
pub fn check_subscription(subscription: &Subscription, log: &Log, violations: &Violations) {
    let head = i64::try_from(log.frames.len()).unwrap_or(i64::MAX);
    let Some(base) = subscription.base else {
        violations.add(Violation::Lost, || format!("{subscription}: was never confirmed"));
        return;
    };
    let received: HashMap<i64, u64> = subscription.received.iter().copied().collect();
    for seq in base + 1..=head {
        let frame = usize::try_from(seq - 1).ok().and_then(|at| log.frames.get(at));
        match (received.get(&seq), frame) {
            (Some(got), Some(frame)) if *got != fingerprint(frame) => {
                violations.add(Violation::Altered, || {
                    format!("{subscription}: received another event as seq {seq} than {frame:.300}")
                });
                return;
            }
            (None, Some(frame)) => {
                violations.add(Violation::Lost, || {
                    format!("{subscription}: never received seq {seq} of {head}: {frame:.300}")
                });
                return;
            }
            _ => {}
        }
    }
    if subscription.last > head {
        violations.add(Violation::Missing, || {
            format!("{subscription}: received more than the log holds, which ends at {head}")
        });
    }
    if subscription.record.is_some_and(|record| record != log.call_id) {
        violations.add(Violation::Altered, || {
            format!("{subscription}: its cursor is of another record than {}", log.call_id)
        });
    }
}
