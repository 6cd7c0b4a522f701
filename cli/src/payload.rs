//! Webhook bodies, as far as a sender has to understand them.
//!
//! [`recording`] reads recorded payloads, [`fresh`] turns payloads into those of a new call, and [`edit`] changes
//! values.

mod edit;
mod fresh;
mod recording;
mod scan;

use callscope_common::elevenlabs::{ProviderTurn, turns};
use callscope_common::json::{Object, replace_lone_surrogates};
use callscope_common::{Identifier, Timestamp};
use serde_json::value::RawValue;

pub(crate) use edit::Edit;
pub(crate) use fresh::{FreshNames, earliest_start, hash, identifiers};

/// A webhook body and the webhook that it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    /// The body, byte for byte.
    pub(crate) body: String,
    pub(crate) kind: Kind,
    /// How the payload was received, if it comes from a recording.
    pub(crate) recorded: Option<Recorded>,
}

/// How a recorded payload was received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) at: Option<Timestamp>,
    /// Its headers and exact bytes; `None` if only its content was recorded.
    pub(crate) raw_request: Option<RawRequest>,
}

/// The headers and bytes of a request as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawRequest {
    /// The headers, as name and value.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) bytes: Vec<u8>,
}

/// What a [`Payload`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A live turn.
    Turn,
    /// A post-call webhook of this type.
    PostCall(String),
}

/// The turns of a post-call transcription, for sending them live.
#[derive(Debug)]
pub(crate) struct LiveTurns {
    pub(crate) conversation_id: Identifier,
    pub(crate) call_sid: Option<Identifier>,
    pub(crate) turns: Vec<ProviderTurn>,
    /// Duration of the call, in seconds.
    pub(crate) duration: f64,
}

impl Payload {
    /// Parses the payloads in a text: a recording, NDJSON, a JSON array, or a single payload.
    pub(crate) fn read(text: &str) -> Result<Vec<Self>, String> {
        if let Some(recorded) = recording::read(text) {
            return recorded;
        }
        let document: &RawValue = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        let items: Vec<&RawValue> = if document.get().starts_with('[') {
            serde_json::from_str(document.get()).map_err(|error| format!("not JSON: {error}"))?
        } else {
            vec![document]
        };
        let one = items.len() == 1;
        let numbered = items.into_iter().enumerate();
        let payloads = numbered.map(|(place, item)| {
            let place = if one { String::new() } else { format!("item {}: ", place + 1) };
            Self::of(item.get()).map_err(|why| format!("{place}{why}"))
        });
        payloads.collect()
    }

    /// Parses a single payload.
    pub(crate) fn of(body: &str) -> Result<Self, String> {
        let readable = replace_lone_surrogates(body);
        let wrong = "neither a webhook (a JSON object with `type`) nor a turn (with `speaker` and `message`)";
        let object = Object::parse(&readable).map_err(|_| wrong.to_owned())?;
        let kind = match object.string("type") {
            Some(kind) => Kind::PostCall(kind),
            None if object.get("speaker").is_some() && object.get("message").is_some() => Kind::Turn,
            None => return Err(wrong.into()),
        };
        Ok(Self { body: body.to_owned(), kind, recorded: None })
    }

    /// Whether the payload is of this kind: a webhook's type, or `turn`.
    pub(crate) fn is(&self, kind: &str) -> bool {
        match &self.kind {
            Kind::Turn => kind == "turn",
            Kind::PostCall(own) => own == kind,
        }
    }

    /// Returns the turns that can be sent live; `None` unless this is a transcription that names its conversation.
    pub(crate) fn live_turns(&self) -> Option<LiveTurns> {
        // A recording contains the turns as payloads of their own.
        if self.recorded.is_some() || self.kind != Kind::PostCall("post_call_transcription".into()) {
            return None;
        }
        let readable = replace_lone_surrogates(&self.body);
        let envelope = Object::parse(&readable).ok()?;
        let data = envelope.object("data")?;
        let metadata = data.object("metadata").unwrap_or_default();
        let identifier = |text: Option<String>| Identifier::parse(&text?).ok();
        let turns = turns(data.get("transcript")?);
        let last = turns.last().map_or(0.0, |turn| turn.offset_secs);
        Some(LiveTurns {
            conversation_id: identifier(data.string("conversation_id"))?,
            call_sid: identifier(metadata.object("phone_call").and_then(|phone| phone.string("call_sid"))),
            turns,
            duration: metadata.float("call_duration_secs").filter(|secs| secs.is_finite()).unwrap_or(0.0).max(last),
        })
    }

    /// Returns the conversation id in the body.
    pub(crate) fn conversation_id(&self) -> Option<String> {
        let readable = replace_lone_surrogates(&self.body);
        let object = Object::parse(&readable).ok()?;
        object.object("data").unwrap_or(object).string("conversation_id")
    }

    /// Returns the conversation id in the body, else the `call_sid`.
    pub(crate) fn identifier(&self) -> Option<String> {
        let sid = || Object::parse(&replace_lone_surrogates(&self.body)).ok()?.string("call_sid");
        self.conversation_id().or_else(sid)
    }

    /// Returns when a turn was received or spoken, and whether it has a `turn_id`.
    pub(crate) fn turn_facts(&self) -> (Option<Timestamp>, bool) {
        let readable = replace_lone_surrogates(&self.body);
        let recorded = self.recorded.as_ref().and_then(|recorded| recorded.at);
        let Ok(object) = Object::parse(&readable) else { return (recorded, false) };
        let at = object.text("timestamp").and_then(|text| {
            Timestamp::parse_rfc3339(&text).or_else(|| text.parse().ok().and_then(Timestamp::from_unix_secs_f64))
        });
        (recorded.or(at), object.get("turn_id").is_some())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_or_many_are_read_byte_for_byte() {
        let one = "{ \"type\": \"post_call_audio\",\"data\":{\"a\": 1e400} }";
        assert_eq!(Payload::read(&format!("{one}\n")).unwrap()[0].body, one);
        let many = Payload::read(&format!("[{one}, {{\"speaker\":\"user\",\"message\":\"\\ud83d\"}}]")).unwrap();
        assert_eq!(many[0].kind, Kind::PostCall("post_call_audio".into()));
        assert_eq!(many[1].kind, Kind::Turn);
    }

    #[test]
    fn what_is_neither_says_where() {
        assert!(Payload::read("no").unwrap_err().starts_with("not JSON"));
        assert!(Payload::read("[{\"type\":\"x\"},{}]").unwrap_err().starts_with("item 2: neither"));
        assert!(Payload::read("7").unwrap_err().starts_with("neither"));
    }

    #[test]
    fn a_transcription_tells_what_was_spoken() {
        let body = r#"{"type":"post_call_transcription","data":{"conversation_id":"conv_1",
            "metadata":{"call_duration_secs":"9","phone_call":{"call_sid":"CA1"}},
            "transcript":[{"role":"agent","message":"hi","time_in_call_secs":2}]}}"#;
        let spoken = Payload::read(body).unwrap()[0].live_turns().unwrap();
        assert_eq!(spoken.call_sid.unwrap().as_str(), "CA1");
        assert!((spoken.duration - 9.0).abs() < 1e-9);
        assert_eq!(spoken.turns.len(), 1);
    }
}
