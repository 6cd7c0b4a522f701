//! The schedule of a job: which deliveries are sent, and when.

use callscope_common::api::WebhookRoute;
use callscope_common::{Identifier, Timestamp};
use serde::Serialize;

use crate::clock;
use crate::payload::{Kind, LiveTurns, Payload};
use crate::webhook::Delivery;

/// Maximum length of the message of a live turn, in bytes of UTF-8. The server refuses a longer one.
const MAX_TURN_BYTES: usize = 65_536;

/// The deliveries of a job, in the order in which they are sent.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    /// Which turns cannot be sent live, and why.
    pub(crate) warnings: Vec<String>,
}

/// A delivery and its time.
#[derive(Debug)]
pub(crate) struct Step {
    /// Seconds after the start of the script.
    pub(crate) at: f64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// A turn of a transcript, which is sent live.
    LiveTurn {
        conversation_id: Identifier,
        call_sid: Option<Identifier>,
        number: usize,
        speaker: &'static str,
        text: String,
    },
    /// A payload that is sent as it is.
    Payload {
        route: WebhookRoute,
        kind: String,
        body: Vec<u8>,
        /// Whether the delivery gets an idempotency key, because nothing in its body identifies it.
        keyed: bool,
        headers: Option<Vec<(String, String)>>,
    },
}

/// How payloads are turned into a script.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ScriptOptions {
    /// Whether the turns of a transcript are sent live before the transcript.
    pub(crate) turns: bool,
    /// Whether recorded headers are sent as they came.
    pub(crate) as_is: bool,
}

impl Script {
    /// Schedules the deliveries of `payloads`.
    pub(crate) fn new(payloads: &[Payload], style: ScriptOptions) -> Self {
        let mut script = Self::default();
        let mut clock = 0.0_f64;
        // The first recorded time, and the script's time that corresponds to it.
        let mut anchor: Option<(Timestamp, f64)> = None;
        for payload in payloads {
            match &payload.kind {
                Kind::Turn => {
                    let (at, has_id) = payload.turn_facts();
                    if let Some(at) = at {
                        let (first, base) = *anchor.get_or_insert((at, clock));
                        clock = clock.max(base + at.secs_since(first));
                    }
                    script.add_payload(clock, WebhookRoute::Transcription, "turn", payload, !has_id, style);
                }
                Kind::PostCall(kind) => {
                    if let Some(at) = payload.recorded.as_ref().and_then(|recorded| recorded.at) {
                        let (first, base) = *anchor.get_or_insert((at, clock));
                        clock = clock.max(base + at.secs_since(first));
                    }
                    if let Some(spoken) = payload.live_turns().filter(|_| style.turns) {
                        clock = script.add_turns(clock, spoken);
                    }
                    script.add_payload(clock, WebhookRoute::PostCall, kind, payload, false, style);
                }
            }
        }
        script
    }

    fn add_payload(
        &mut self,
        at: f64,
        route: WebhookRoute,
        kind: &str,
        payload: &Payload,
        keyed: bool,
        style: ScriptOptions,
    ) {
        let raw_request = payload.recorded.as_ref().and_then(|recorded| recorded.raw_request.as_ref());
        let body =
            raw_request.map_or_else(|| payload.body.clone().into_bytes(), |raw_request| raw_request.bytes.clone());
        let headers = raw_request.filter(|_| style.as_is).map(|raw_request| raw_request.headers.clone());
        let keyed = keyed && headers.is_none();
        self.steps.push(Step { at, content: Content::Payload { route, kind: kind.to_owned(), body, keyed, headers } });
    }

    /// Reorders the post-call webhooks by `shuffle`, which shuffles a list of their places. Times stay where they are.
    pub(crate) fn shuffle_post_calls(&mut self, shuffle: impl FnOnce(&mut [usize])) {
        let is_post_call =
            |step: &Step| matches!(&step.content, Content::Payload { route: WebhookRoute::PostCall, .. });
        let places: Vec<usize> = (0..self.steps.len()).filter(|&at| is_post_call(&self.steps[at])).collect();
        let mut mixed = places.clone();
        shuffle(&mut mixed);
        let mut taken: Vec<Option<Content>> = Vec::new();
        let steps = std::mem::take(&mut self.steps);
        let times: Vec<f64> = steps.iter().map(|step| step.at).collect();
        taken.extend(steps.into_iter().map(|step| Some(step.content)));
        let mut order: Vec<usize> = (0..times.len()).collect();
        for (place, from) in places.into_iter().zip(mixed) {
            order[place] = from;
        }
        let step = |(at, from): (f64, usize)| taken[from].take().map(|content| Step { at, content });
        self.steps = times.into_iter().zip(order).filter_map(step).collect();
    }

    /// Adds the turns of a transcript, and returns the time at which the call ends.
    fn add_turns(&mut self, base: f64, spoken: LiveTurns) -> f64 {
        for (number, turn) in spoken.turns.into_iter().enumerate() {
            if turn.text.len() > MAX_TURN_BYTES {
                self.warnings.push(format!(
                    "turn {number} is {} bytes long, a live turn takes {MAX_TURN_BYTES}: it comes only with the whole transcript",
                    turn.text.len()
                ));
                continue;
            }
            let content = Content::LiveTurn {
                conversation_id: spoken.conversation_id.clone(),
                call_sid: spoken.call_sid.clone(),
                number,
                speaker: turn.speaker.as_str(),
                text: turn.text,
            };
            self.steps.push(Step { at: base + turn.offset_secs.max(0.0), content });
        }
        base + spoken.duration
    }
}

/// The body of a live turn.
#[derive(Serialize)]
struct Turn<'a> {
    conversation_id: &'a Identifier,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_sid: Option<&'a Identifier>,
    speaker: &'static str,
    message: &'a str,
    turn_id: String,
    timestamp: Timestamp,
}

impl Step {
    /// Returns the webhook that the step is sent to.
    pub(crate) fn route(&self) -> WebhookRoute {
        match &self.content {
            Content::Payload { route, .. } => *route,
            Content::LiveTurn { .. } => WebhookRoute::Transcription,
        }
    }

    /// Returns the delivery. `key` becomes its idempotency key if nothing in the body identifies it. A live turn gets
    /// the present time.
    pub(crate) fn deliver(self, key: &str) -> Delivery {
        match self.content {
            Content::Payload { route, kind, body, keyed, headers } => {
                let idempotency_key = keyed.then(|| key.to_owned());
                Delivery { route, kind, body, idempotency_key, headers }
            }
            Content::LiveTurn { conversation_id, call_sid, number, speaker, text } => {
                let turn = Turn {
                    conversation_id: &conversation_id,
                    call_sid: call_sid.as_ref(),
                    speaker,
                    message: &text,
                    turn_id: format!("t{number}"),
                    timestamp: clock::now(),
                };
                // A struct of strings and times always serialises, so the fallback is never used.
                let body = serde_json::to_vec(&turn).unwrap_or_default();
                Delivery {
                    route: WebhookRoute::Transcription,
                    kind: "turn".into(),
                    body,
                    idempotency_key: None,
                    headers: None,
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn script(text: &str, turns: bool) -> Script {
        Script::new(&Payload::read(text).unwrap(), ScriptOptions { turns, as_is: false })
    }

    fn times(script: &Script) -> Vec<f64> {
        script.steps.iter().map(|step| step.at).collect()
    }

    fn transcription(message: &str) -> String {
        format!(
            r#"{{"type":"post_call_transcription","data":{{"conversation_id":"conv_1",
            "metadata":{{"call_duration_secs":12,"phone_call":{{"call_sid":"CA1"}}}},
            "transcript":[{{"role":"agent","message":"{message}","time_in_call_secs":1}},
            {{"role":"user","message":"bye","time_in_call_secs":7}}]}}}}"#
        )
    }

    #[test]
    fn a_transcript_is_spoken_before_it_is_sent() {
        let script = script(&transcription("hi"), true);
        assert_eq!(times(&script), [1.0, 7.0, 12.0]);
        let deliveries: Vec<_> = script.steps.into_iter().map(|step| step.deliver("key")).collect();
        let turn: Value = serde_json::from_slice(&deliveries[1].body).unwrap();
        assert_eq!((turn["turn_id"].as_str(), turn["speaker"].as_str()), (Some("t1"), Some("user")));
        assert_eq!((turn["conversation_id"].as_str(), turn["call_sid"].as_str()), (Some("conv_1"), Some("CA1")));
        assert_eq!(deliveries[2].route, WebhookRoute::PostCall);
        assert_eq!(deliveries[2].body, transcription("hi").into_bytes());
    }

    #[test]
    fn without_turns_it_is_sent_at_once() {
        assert_eq!(times(&script(&transcription("hi"), false)), [0.0]);
    }

    #[test]
    fn a_turn_too_long_to_be_spoken_is_left_out_and_said() {
        let script = script(&transcription(&"x".repeat(MAX_TURN_BYTES + 1)), true);
        assert_eq!(times(&script), [7.0, 12.0]);
        assert_eq!(script.warnings.len(), 1);
    }

    #[test]
    fn turns_of_a_file_keep_their_own_times_and_are_told_apart() {
        let turn = |at: &str| format!(r#"{{"conversation_id":"c","speaker":"user","message":"hi","timestamp":{at}}}"#);
        let script =
            script(&format!("[{},{},{}]", turn("1790855000"), turn("\"2026-10-01T11:43:24Z\""), turn("null")), true);
        assert_eq!(times(&script), [0.0, 4.0, 4.0]);
        assert!(script.steps.into_iter().all(|step| step.deliver("key").idempotency_key.is_some()));
    }

    #[test]
    fn post_call_webhooks_change_places_and_turns_keep_theirs() {
        let text = format!(r#"[{},{{"type":"post_call_audio"}},{{"type":"other"}}]"#, transcription("hi"));
        let mut script = script(&text, true);
        script.shuffle_post_calls(<[usize]>::reverse);
        assert_eq!(times(&script), [1.0, 7.0, 12.0, 12.0, 12.0]);
        let kinds: Vec<_> = script.steps.into_iter().map(|step| step.deliver("key").kind).collect();
        assert_eq!(kinds, ["turn", "turn", "other", "post_call_audio", "post_call_transcription"]);
    }
}
