//! Post-call webhooks: results, failures and recordings.

use callscope_common::json::Object;
use callscope_common::{CallData, CallStatus, Identifier, Timestamp, elevenlabs, text};
use serde_json::value::RawValue;

use super::{PayloadError, identifier, invalid, parse_object};
use crate::ingest::naming::Naming;
use crate::ingest::recording;
use crate::log::{CallResult, Change, Ending, Names};

/// Maximum length of a stored `type`, in characters.
const MAX_KIND_CHARS: usize = 64;

/// Reads the body of a post-call webhook. Returns its `type` and the change that it makes.
#[must_use]
pub fn post_call(body: &str, naming: &Naming) -> (Option<String>, Change) {
    let envelope = match parse_object(body) {
        Ok(envelope) => envelope,
        Err(error) => return (None, error.into()),
    };
    let Some(kind) = envelope.string("type") else {
        let error = PayloadError {
            status: 400,
            message: "`type` is missing or not a string".into(),
            details: Some("the envelope is {\"type\", \"event_timestamp\", \"data\"}".into()),
        };
        return (None, error.into());
    };
    let change = match kind.as_str() {
        "post_call_transcription" => read_result(&envelope, naming),
        "call_initiation_failure" => read_failure(&envelope, naming),
        "post_call_audio" => read_audio(&envelope),
        _ => Ok(ignored(&envelope)),
    };
    // The stored type is printed, so control characters are removed.
    let stored_kind: String = text::one_line(&kind).chars().take(MAX_KIND_CHARS).collect();
    (Some(stored_kind), change.unwrap_or_else(Change::from))
}

/// Returns `data` and the conversation id in it.
fn data<'a>(envelope: &Object<'a>) -> Result<(Object<'a>, Identifier), PayloadError> {
    let Some(data) = envelope.object("data") else {
        return invalid("`data` is missing or not an object", "expected {…}");
    };
    match identifier(&data, "conversation_id") {
        Ok(Some(id)) => Ok((data, id)),
        Ok(None) => invalid("`data.conversation_id` is missing", "it names the call"),
        // The message names the key without the object that it is in.
        Err(error) => Err(PayloadError { message: error.message.replace("`conv", "`data.conv"), ..error }),
    }
}

fn read_result(envelope: &Object<'_>, naming: &Naming) -> Result<Change, PayloadError> {
    let (data, conversation_id) = data(envelope)?;
    let metadata = data.object("metadata").unwrap_or_default();
    let analysis = data.object("analysis").unwrap_or_default();
    let ending = match data.string("status").as_deref() {
        Some("done") => Ending::Done,
        Some("failed") => Ending::Failed,
        _ => Ending::Unspecified,
    };
    let transcript = data.get("transcript");
    let result = CallData {
        duration_seconds: metadata.integer("call_duration_secs"),
        call_start_time: metadata.integer("start_time_unix_secs").and_then(Timestamp::from_unix_secs),
        call_end_time: end_time(envelope, &metadata),
        transcript_summary: analysis.text("transcript_summary"),
        cost: metadata.number("cost"),
        cost_fiat: metadata.number("cost_fiat"),
        call_successful: call_successful(&analysis),
        failure_reason: (ending == Ending::Failed).then(|| failure_reason(&data, &metadata)).flatten(),
        analysis_data: data.get("analysis").map(RawValue::to_owned),
        metadata: data.get("metadata").map(RawValue::to_owned),
        ..CallData::new(CallStatus::Completed)
    };
    Ok(Change::Result(Box::new(CallResult {
        names: names(&data, &metadata, conversation_id, naming),
        agent_id: agent_id(&data),
        ending,
        data: result,
        turns: transcript.map(elevenlabs::turns).unwrap_or_default(),
        transcript: transcript.map(|json| json.get().to_owned()),
    })))
}

/// Returns the start plus the duration, or the time of the webhook if either is missing.
fn end_time(envelope: &Object<'_>, metadata: &Object<'_>) -> Option<Timestamp> {
    let start = metadata.integer("start_time_unix_secs").and_then(Timestamp::from_unix_secs);
    let duration = metadata.integer("call_duration_secs").filter(|secs| *secs >= 0);
    match (start, duration) {
        (Some(start), Some(duration)) => Some(start.plus_secs(duration)),
        _ => event_time(envelope),
    }
}

fn event_time(envelope: &Object<'_>) -> Option<Timestamp> {
    envelope.integer("event_timestamp").and_then(Timestamp::from_unix_secs)
}

fn call_successful(analysis: &Object<'_>) -> Option<bool> {
    match analysis.text("call_successful")?.as_str() {
        "success" | "true" => Some(true),
        "failure" | "false" => Some(false),
        _ => None,
    }
}

fn failure_reason(data: &Object<'_>, metadata: &Object<'_>) -> Option<String> {
    let error = metadata.object("error").and_then(|error| error.text("reason"));
    data.text("failure_reason")
        .or(error)
        .or_else(|| metadata.text("termination_reason"))
        .filter(|reason| !reason.is_empty())
}

fn agent_id(data: &Object<'_>) -> Option<String> {
    data.string("agent_id").filter(|id| !id.is_empty()).map(|id| text::one_line(&id).into_owned())
}

/// Returns every name of the call that the payload states or that its dynamic variables may state.
fn names(data: &Object<'_>, metadata: &Object<'_>, conversation_id: Identifier, naming: &Naming) -> Names {
    let variables = data
        .object("conversation_initiation_client_data")
        .and_then(|initiation| initiation.object("dynamic_variables"))
        .unwrap_or_default();
    let phone_call = metadata.object("phone_call").unwrap_or_default();
    Names {
        linked: naming.linked_call(&variables),
        call_sid: naming.trusted_identifier(&variables),
        others: sids([sid(&phone_call, "call_sid"), sid(&variables, "system__call_sid")]),
        conversation_id: Some(conversation_id),
    }
}

fn sid(fields: &Object<'_>, key: &str) -> Option<Identifier> {
    fields.string(key).and_then(|sid| Identifier::parse(&sid).ok())
}

/// Returns the sids that are present, each once.
fn sids(sids: [Option<Identifier>; 2]) -> Vec<Identifier> {
    let mut sids: Vec<Identifier> = sids.into_iter().flatten().collect();
    sids.dedup();
    sids
}

fn read_failure(envelope: &Object<'_>, naming: &Naming) -> Result<Change, PayloadError> {
    let (data, conversation_id) = data(envelope)?;
    let metadata = data.object("metadata").unwrap_or_default();
    let body = metadata.object("body").unwrap_or_default();
    let mut names = names(&data, &metadata, conversation_id, naming);
    // Twilio's status callback spells the key `CallSid`, a SIP trunk `call_sid`.
    names.others.extend(sids([sid(&body, "CallSid"), sid(&body, "call_sid")]));
    Ok(Change::Result(Box::new(CallResult {
        names,
        agent_id: agent_id(&data),
        ending: Ending::Failed,
        data: CallData {
            call_end_time: event_time(envelope),
            failure_reason: data.text("failure_reason"),
            metadata: data.get("metadata").map(RawValue::to_owned),
            ..CallData::new(CallStatus::Failed)
        },
        turns: Vec::new(),
        transcript: None,
    })))
}

fn read_audio(envelope: &Object<'_>) -> Result<Change, PayloadError> {
    let (data, conversation_id) = data(envelope)?;
    let names = Names { conversation_id: Some(conversation_id), ..Names::default() };
    Ok(match data.get("full_audio").and_then(recording::decode) {
        Some(bytes) => Change::Audio { names, content_type: recording::content_type(&bytes), bytes },
        None => Change::Ignored { names, reason: "`data.full_audio` is missing or not Base64" },
    })
}

fn ignored(envelope: &Object<'_>) -> Change {
    let conversation_id = envelope.object("data").and_then(|data| sid(&data, "conversation_id"));
    Change::Ignored {
        names: Names { conversation_id, ..Names::default() },
        reason: "webhooks of this type have no effect",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::naming::CallLinks;
    use crate::secret::Secret;

    fn naming() -> Naming {
        Naming::by_links(CallLinks::new(&[Secret::new("k".repeat(32))]))
    }

    fn rejection(change: Change) -> (u16, String) {
        match change {
            Change::Rejected { status, message, .. } => (status, message),
            other => panic!("not rejected: {other:?}"),
        }
    }

    fn result(body: &str) -> CallResult {
        match post_call(body, &naming()).1 {
            Change::Result(result) => *result,
            other => panic!("no result: {other:?}"),
        }
    }

    #[test]
    fn a_post_call_webhook_needs_its_type_and_its_conversation() {
        for (body, message) in [
            (r#"{"data":{}}"#, "`type` is missing or not a string"),
            (r#"{"type":7}"#, "`type` is missing or not a string"),
            (r#"{"type":"post_call_transcription"}"#, "`data` is missing or not an object"),
            (r#"{"type":"post_call_audio","data":{}}"#, "`data.conversation_id` is missing"),
            (
                r#"{"type":"call_initiation_failure","data":{"conversation_id":7}}"#,
                "`data.conversation_id` is not a string",
            ),
        ] {
            assert_eq!(rejection(post_call(body, &naming()).1), (400, message.to_owned()), "{body}");
        }
    }

    #[test]
    fn results_with_odd_fields_are_accepted() {
        let bare = result(r#"{"type":"post_call_transcription","data":{"conversation_id":"c"}}"#);
        assert_eq!((bare.ending, bare.turns.len(), bare.data.call_successful), (Ending::Unspecified, 0, None));
        let odd = result(
            r#"{"event_timestamp":"1790855035","data":{"metadata":{"cost":"74","start_time_unix_secs":"1790855000",
                "call_duration_secs":11.9,"phone_call":{"type":"new","call_sid":"CA1"}},"status":"failed","agent_id":7,
                "analysis":{"call_successful":true,"transcript_summary":null},"transcript":{"no":"list"},
                "conversation_initiation_client_data":{"dynamic_variables":{"system__call_sid":"CA1","call_sid":"EL_x_1"}},
                "conversation_id":"c"},"type":"post_call_transcription"}"#,
        );
        assert_eq!(odd.data.cost.as_ref().and_then(serde_json::Number::as_i64), Some(74));
        assert_eq!(odd.data.duration_seconds, Some(11));
        assert_eq!(odd.data.call_end_time, Timestamp::from_unix_secs(1_790_855_011));
        assert_eq!(odd.data.call_successful, Some(true));
        assert_eq!(odd.ending, Ending::Failed);
        let names: Vec<&str> = odd.names.iter().map(Identifier::as_str).collect();
        // A variable that a caller's client can set does not name the call.
        assert_eq!(names, ["c", "CA1"]);
    }

    #[test]
    fn only_a_link_or_the_trusted_variable_names_a_call_among_the_variables() {
        let call_id = uuid::Uuid::from_u128(7);
        let link = naming().links.link_to(call_id).expect("a key");
        let names_from = |variables: &str, naming: &Naming| -> Vec<String> {
            let body = format!(
                r#"{{"type":"post_call_transcription","data":{{"conversation_id":"c",
                "conversation_initiation_client_data":{{"dynamic_variables":{variables}}}}}}}"#
            );
            let Change::Result(result) = post_call(&body, naming).1 else { panic!("no result") };
            result.names.iter().map(ToString::to_string).collect()
        };
        let variable = |name: &str, value: &str| format!(r#"{{"{name}":"{value}"}}"#);
        for name in ["call_sid", "conversation_id", "call_id", "sip_call_id", "CallSid", "callscope_call", "X-Call-Sid"]
        {
            for value in ["EL_bank_1", &call_id.to_string(), &link] {
                assert_eq!(names_from(&variable(name, value), &naming()), ["c"], "{name}: {value}");
            }
        }
        for value in ["EL_bank_1", &call_id.to_string(), "", &link[1..], &format!("{link}A")] {
            assert_eq!(names_from(&variable("callscope_link", value), &naming()), ["c"], "{value}");
        }
        assert_eq!(names_from(&variable("callscope_link", &link), &naming()), [call_id.to_string(), "c".into()]);
        let trusting = Naming { trusted_variable: Some("our_sid".into()), ..naming() };
        assert_eq!(names_from(&variable("our_sid", "EL_bank_1"), &trusting), ["EL_bank_1", "c"]);
        assert_eq!(names_from(&variable("call_sid", "EL_bank_1"), &trusting), ["c"]);
        assert_eq!(names_from(&variable("our_sid", "a b"), &trusting), ["c"]);
    }

    #[test]
    fn failures_name_the_providers_call() {
        for body in [r#"{"type":"twilio","body":{"CallSid":"CA9"}}"#, r#"{"type":"sip","body":{"call_sid":"CA9"}}"#] {
            let body = format!(
                r#"{{"type":"call_initiation_failure","data":{{"conversation_id":"c","failure_reason":"busy","metadata":{body}}}}}"#
            );
            let Change::Result(failure) = post_call(&body, &naming()).1 else { panic!("no failure") };
            assert_eq!(failure.ending, Ending::Failed);
            assert_eq!(failure.names.others.iter().map(Identifier::as_str).collect::<Vec<_>>(), ["CA9"]);
            assert_eq!(failure.data.failure_reason.as_deref(), Some("busy"));
        }
    }

    #[test]
    fn audio_that_cannot_be_decoded_is_stored_and_ignored() {
        let audio = |value: &str| {
            let body = format!(r#"{{"type":"post_call_audio","data":{{"conversation_id":"c","full_audio":{value}}}}}"#);
            post_call(&body, &naming()).1
        };
        assert!(matches!(audio(r#""aGk=""#), Change::Audio { bytes, .. } if bytes == b"hi"));
        assert!(matches!(audio(r#""aGk""#), Change::Audio { bytes, .. } if bytes == b"hi"));
        for odd in ["null", "7", r#""***""#, r#""""#] {
            assert!(matches!(audio(odd), Change::Ignored { .. }), "{odd}");
        }
    }

    #[test]
    fn an_unknown_type_is_stored_without_control_characters() {
        let (kind, change) = post_call(r#"{"type":"\u001b[2Jnew","data":{"conversation_id":"c"}}"#, &naming());
        assert_eq!(kind.as_deref(), Some("\u{fffd}new"));
        assert!(matches!(change, Change::Ignored { .. }));
    }
}
