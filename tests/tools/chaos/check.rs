//! Compares the logs with the acknowledged deliveries, and the events that subscribers received with the logs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use callscope_common::api::EventList;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::ledger::CallLedger;
use crate::plan::CallShape;
use crate::subscription::{Subscription, fingerprint};
use crate::violations::{Violation, Violations};

const EVENTS_PER_REQUEST: usize = 500;
/// Tries of one request. No fault is injected any more, but a server may still be starting.
const MAX_TRIES: usize = 200;

/// A call's log as the API returns it.
#[derive(Debug)]
pub struct Log {
    pub call_id: callscope_common::CallId,
    /// The messages of the events, in the order of their seqs. Subscribers must have received the same bytes.
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

/// Fetches a call's log; `None` if the servers do not know the name.
pub async fn fetch(cluster: &Cluster, name: &str) -> Option<Log> {
    let call: Value = get(cluster, &format!("calls/{name}")).await?;
    let call_id: callscope_common::CallId = call["call_id"].as_str()?.parse().ok()?;
    let mut frames: Vec<String> = Vec::new();
    loop {
        let page: EventList = get(
            cluster,
            &format!("calls/{name}/events?after={}&call_id={call_id}&limit={EVENTS_PER_REQUEST}", frames.len()),
        )
        .await?;
        let is_last = page.events.is_empty();
        frames.extend(page.events.iter().map(|event| event.get().to_owned()));
        if is_last || i64::try_from(frames.len()).is_ok_and(|count| count >= page.head) {
            return Some(Log { call_id, frames });
        }
    }
}

async fn get<T: serde::de::DeserializeOwned>(cluster: &Cluster, path: &str) -> Option<T> {
    for attempt in 0..MAX_TRIES {
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

/// Checks one call's log and returns it; `None` if no delivery of the call was acknowledged or the log is missing.
pub async fn check_call(cluster: &Cluster, call: &Arc<CallLedger>) -> Option<Log> {
    let violations = &cluster.ledger.violations;
    let known_names = call.known_names();
    let Some(log) = fetch(cluster, known_names.first()?).await else {
        violations
            .add(Violation::Missing, || format!("c{} has no log under its name {}", call.plan.index, known_names[0]));
        return None;
    };
    for name in &known_names[1..] {
        let call_id = get::<Value>(cluster, &format!("calls/{name}"))
            .await
            .and_then(|call| call["call_id"].as_str()?.parse().ok());
        if call_id != Some(log.call_id) && call.has_ended() {
            violations.add(Violation::Missing, || {
                format!(
                    "c{}: {name} leads to {call_id:?}, {} leads to {}",
                    call.plan.index, known_names[0], log.call_id
                )
            });
        }
    }
    check_log(call, &log, violations);
    Some(log)
}

fn check_log(call: &CallLedger, log: &Log, violations: &Violations) {
    let index = call.plan.index;
    let mut not_found = call.all_sent();
    let (mut turn_count, mut moved_count, mut completed_count, mut last_moved_seq) = (0, 0, 0, 0);
    let mut seq_by_text: HashMap<String, i64> = HashMap::new();
    for (seq, frame) in (1_i64..).zip(&log.frames) {
        let Ok(event) = serde_json::from_str::<Event>(frame) else {
            violations.add(Violation::Altered, || format!("c{index}: this is not an event: {frame:.200}"));
            continue;
        };
        if event.seq != seq {
            violations.add(Violation::Lost, || format!("c{index}: the log has a hole: seq {seq} is {frame:.200}"));
        }
        let text = match event.r#type.as_str() {
            "transcription" => {
                turn_count += 1;
                if event.sequence_number != Some(turn_count) {
                    violations.add(Violation::Misplaced, || {
                        format!("c{index}: expected the `sequence_number` {turn_count}: {frame:.300}")
                    });
                }
                event.message_text.clone().unwrap_or_default()
            }
            "call_completed" => {
                let summary = event.call_data.as_ref().and_then(|data| data["transcript_summary"].as_str());
                summary.unwrap_or_default().to_owned()
            }
            _ => {
                completed_count += i64::from(event.status.as_deref() == Some("completed"));
                continue;
            }
        };
        if let Some(first_seq) = seq_by_text.insert(text.clone(), seq) {
            violations.add(Violation::Doubled, || {
                format!("c{index}: the log holds this at seq {first_seq} and at seq {seq}: {frame:.300}")
            });
            continue;
        }
        match not_found.remove(&text) {
            Some(sent) => {
                if let Some(acknowledged) = sent.acknowledged.filter(|_| event.r#type == "transcription") {
                    let answered = |field: &str| acknowledged.json[field].as_i64();
                    let is_as_answered = (answered("seq"), answered("sequence_number"), answered("transcription_id"))
                        == (Some(seq), Some(turn_count), event.transcription_id);
                    // A merge appends the absorbed record's events in their order, so the seqs that their webhooks were
                    // answered with increase.
                    let may_have_moved =
                        call.plan.shape == CallShape::TwoNames && answered("seq") > Some(last_moved_seq);
                    if !is_as_answered && may_have_moved {
                        moved_count += 1;
                        last_moved_seq = answered("seq").unwrap_or_default();
                    } else if !is_as_answered {
                        violations.add(Violation::Misplaced, || {
                            format!("c{index}: answered {}, found as {frame:.300}", acknowledged.json)
                        });
                    }
                }
            }
            None if is_providers_turn(call, &text) => {}
            None => violations.add(Violation::Unexpected, || format!("c{index}: this was never sent: {frame:.300}")),
        }
    }
    if completed_count > 1 {
        violations.add(Violation::Doubled, || {
            format!("c{index}: completed {completed_count} times, with {moved_count} moved events")
        });
    }
    if call.plan.shape == CallShape::ProviderTurns && call.has_ended() && seq_by_text.len() != call.plan.turns.len() + 1
    {
        violations.add(Violation::Missing, || {
            format!("c{index}: the log lacks some of the provider's {} turns", call.plan.turns.len())
        });
    }
    for (text, sent) in not_found {
        if let Some(acknowledged) = sent.acknowledged {
            violations.add(Violation::Missing, || {
                format!("c{index} as {}: {text:.60}: answered {} {}", sent.name, acknowledged.status, acknowledged.json)
            });
        }
    }
}

fn is_providers_turn(call: &CallLedger, text: &str) -> bool {
    call.plan.shape == CallShape::ProviderTurns && call.plan.turns.iter().any(|turn| turn.text == text)
}

/// Checks that a subscription received the events that it was owed, as the log holds them.
pub fn check_subscription(subscription: &Subscription, log: &Log, violations: &Violations) {
    let head = i64::try_from(log.frames.len()).unwrap_or(i64::MAX);
    let Some(first_owed_after) = subscription.first_owed_after else {
        violations.add(Violation::Lost, || format!("{subscription}: was never confirmed"));
        return;
    };
    let received: HashMap<i64, u64> = subscription.received.iter().copied().collect();
    for seq in first_owed_after + 1..=head {
        let frame = usize::try_from(seq - 1).ok().and_then(|index| log.frames.get(index));
        match (received.get(&seq), frame) {
            (Some(received), Some(frame)) if *received != fingerprint(frame) => {
                violations.add(Violation::Altered, || {
                    format!("{subscription}: the event received as seq {seq} is not {frame:.300}")
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
    if subscription.last_seq > head {
        violations
            .add(Violation::Missing, || format!("{subscription}: received events after {head}, the head of the log"));
    }
    if subscription.record.is_some_and(|record| record != log.call_id) {
        violations.add(Violation::Altered, || format!("{subscription}: followed another record than {}", log.call_id));
    }
}
