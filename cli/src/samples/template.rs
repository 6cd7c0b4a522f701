//! Makes a new payload of a given type.

use callscope_common::Timestamp;
use serde_json::json;

use crate::clock;
use crate::exit::{Failure, Result};
use crate::payload::{FreshNames, Payload};

/// Types, a short name of each, and the sample that has a payload of the type.
const TEMPLATES: [(&str, &str, &str); 4] = [
    ("post_call_transcription", "transcription", "tow-truck"),
    ("call_initiation_failure", "failure", "line-busy"),
    ("post_call_audio", "audio", "night-bus"),
    ("post_call_transcription_otel", "otel", "telemetry"),
];

/// Makes a payload of the type or short name `event`. Each is of a new call that begins now. A type without a sample
/// gives an envelope with nothing but ids.
pub(crate) fn template(event: &str) -> Result<Payload> {
    if event == "turn" {
        return payload(&turn());
    }
    let Some((kind, _, sample)) = TEMPLATES.iter().find(|(kind, short, _)| event == *kind || event == *short) else {
        return payload(&envelope(event)?);
    };
    let text = super::find(sample).map(|sample| sample.text).unwrap_or_default();
    let payloads = Payload::read(text).map_err(|why| Failure::error(format!("{sample}: {why}")))?;
    let of_kind = |payload: &&Payload| Payload::of(&payload.body).is_ok_and(|payload| payload.is(kind));
    let payload = payloads.iter().find(of_kind).ok_or_else(|| Failure::error(format!("no sample is a {kind}")))?;
    let payloads = std::slice::from_ref(payload);
    FreshNames::of(payloads).rewrite(payloads).pop().ok_or_else(|| Failure::error(format!("no sample is a {kind}")))
}

/// Types of ElevenLabs that no sample has; an envelope is sent.
const TYPES_WITHOUT_SAMPLE: [&str; 1] = ["answering_machine_detection"];

/// Returns whether `event` is a type of ElevenLabs or the short name of one.
pub(crate) fn is_known(event: &str) -> bool {
    event_names().any(|name| name == event)
}

/// Returns all types and their short names.
pub(crate) fn event_names() -> impl Iterator<Item = &'static str> {
    TEMPLATES.into_iter().flat_map(|(kind, short, _)| [kind, short]).chain(["turn"]).chain(TYPES_WITHOUT_SAMPLE)
}

/// Returns the types without their short names, for messages.
pub(crate) fn type_names() -> String {
    let names: Vec<&str> =
        TEMPLATES.iter().map(|(kind, _, _)| *kind).chain(["turn"]).chain(TYPES_WITHOUT_SAMPLE).collect();
    names.join(", ")
}

fn payload(value: &serde_json::Value) -> Result<Payload> {
    Payload::of(&value.to_string()).map_err(Failure::error)
}

fn turn() -> serde_json::Value {
    let now = Timestamp::from_unix_secs(clock::unix_secs()).map(|now| now.to_string());
    json!({"conversation_id": new_conversation_id(), "speaker": "user", "message": "Hello, is anybody there?",
        "turn_id": uuid::Uuid::new_v4(), "timestamp": now})
}

fn envelope(event: &str) -> Result<serde_json::Value> {
    if event.is_empty()
        || event.len() > 64
        || !event.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    {
        return Err(Failure::usage(format!("{event:?} cannot be the type of a webhook"))
            .hint(format!("known types: {}", type_names())));
    }
    Ok(json!({"type": event, "event_timestamp": clock::unix_secs(),
        "data": {"agent_id": "agent_01callscope0road0desk0000", "conversation_id": new_conversation_id()}}))
}

fn new_conversation_id() -> String {
    format!("conv_{}", &uuid::Uuid::new_v4().simple().to_string()[..28])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::payload::Kind;

    #[test]
    fn every_type_has_a_template_that_is_another_call_each_time() {
        for (kind, short, _) in TEMPLATES {
            let (one, other) = (template(kind).unwrap(), template(short).unwrap());
            assert_eq!(one.kind, Kind::PostCall(kind.into()));
            assert!(one.conversation_id().is_some());
            assert_ne!(one.conversation_id(), other.conversation_id(), "{kind}");
        }
        assert_eq!(template("turn").unwrap().kind, Kind::Turn);
    }

    #[test]
    fn a_typo_is_near_the_name_that_was_meant() {
        let nearest = |typed: &str| super::super::nearest(typed, event_names());
        for (typed, meant) in [
            ("transcripton", Some("transcription")),
            ("Transcription", Some("transcription")),
            ("post_call_transcripton", Some("post_call_transcription")),
            ("faliure", Some("failure")),
            ("trun", Some("turn")),
            ("xyzzy", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed), meant, "{typed}");
        }
    }

    #[test]
    fn an_unknown_type_is_an_envelope_and_nonsense_is_refused() {
        assert_eq!(template("voicemail").unwrap().kind, Kind::PostCall("voicemail".into()));
        assert!(!is_known("voicemail") && is_known("answering_machine_detection"));
        assert!(template("a b").is_err());
    }
}
