//! The turn webhook, which an agent's own tool sends.

use callscope_common::json::Object;
use callscope_common::{Speaker, Timestamp};
use serde_json::value::RawValue;

use super::{PayloadError, identifier, invalid, parse_object};
use crate::log::{Change, Names, Turn};

/// Maximum length of a turn's message, in bytes.
const MAX_MESSAGE_BYTES: usize = 65_536;

/// Reads the body of a turn. Returns its kind and the change that it makes.
#[must_use]
pub fn turn(body: &str) -> (Option<String>, Change) {
    match read_turn(body) {
        Ok(turn) => (Some(if turn.is_final { "turn" } else { "partial" }.into()), Change::Turn(turn)),
        Err(error) => (Some("turn".into()), error.into()),
    }
}

fn read_turn(body: &str) -> Result<Turn, PayloadError> {
    let fields = parse_object(body)?;
    let names = Names {
        call_sid: identifier(&fields, "call_sid")?,
        conversation_id: identifier(&fields, "conversation_id")?,
        ..Names::default()
    };
    if names == Names::default() {
        return invalid(
            "`call_sid` and `conversation_id` are both missing",
            "a turn names its call by one or both of them",
        );
    }
    let Some(speaker) = fields.string("speaker") else {
        return invalid("`speaker` is missing or not a string", "one of agent, user, tool");
    };
    let Ok(speaker) = speaker.parse::<Speaker>() else {
        return invalid("`speaker` is unknown", "one of agent, user, tool");
    };
    let Some(text) = fields.string("message").filter(|text| !text.is_empty()) else {
        return invalid("`message` is missing, empty or not a string", "1 to 65536 bytes of text");
    };
    if text.len() > MAX_MESSAGE_BYTES {
        let details = Some(format!("it has {} bytes; at most {MAX_MESSAGE_BYTES} are taken", text.len()));
        return Err(PayloadError { status: 413, message: "`message` is too long".into(), details });
    }
    let turn_id = match fields.get("turn_id") {
        // An empty `turn_id` comes from a template without a value and counts as missing. A number counts as its text.
        Some(_) if fields.array("turn_id").is_empty() && fields.object("turn_id").is_none() => {
            fields.text("turn_id").filter(|id| !id.trim().is_empty())
        }
        Some(_) => return invalid("`turn_id` is not a string", "any string that names the turn within its call"),
        None => None,
    };
    let is_final = match fields.get("is_final").map(RawValue::get) {
        None | Some("true") => true,
        Some("false") => false,
        Some(_) => return invalid("`is_final` is neither true nor false", "it may be missing, which means true"),
    };
    Ok(Turn { names, speaker, text, at: timestamp(&fields)?, turn_id, is_final })
}

fn timestamp(fields: &Object<'_>) -> Result<Option<Timestamp>, PayloadError> {
    let Some(_) = fields.get("timestamp") else { return Ok(None) };
    let from_rfc3339 = fields.string("timestamp").and_then(|text| Timestamp::parse_rfc3339(text.trim()));
    let from_unix_secs = || match fields.number("timestamp")?.as_i64() {
        Some(secs) => Timestamp::from_unix_secs(secs),
        None => Timestamp::from_unix_secs_f64(fields.float("timestamp")?),
    };
    match from_rfc3339.or_else(from_unix_secs) {
        Some(at) => Ok(Some(at)),
        None => invalid("`timestamp` is not a time", "RFC 3339 such as 2026-10-01T14:00:31Z, or Unix seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(change: Change) -> (u16, String) {
        match change {
            Change::Rejected { status, message, .. } => (status, message),
            other => panic!("not rejected: {other:?}"),
        }
    }

    #[test]
    fn a_rejected_turn_is_told_what_is_wrong() {
        for (body, status, message) in [
            ("", 400, "the body is not JSON"),
            ("[]", 400, "the body is not a JSON object"),
            ("{}", 400, "`call_sid` and `conversation_id` are both missing"),
            (r#"{"call_sid":7}"#, 400, "`call_sid` is not a string"),
            (r#"{"call_sid":"a b"}"#, 400, "`call_sid` is not an identifier"),
            (r#"{"call_sid":"a"}"#, 400, "`speaker` is missing or not a string"),
            (r#"{"call_sid":"a","speaker":"boss"}"#, 400, "`speaker` is unknown"),
            (r#"{"call_sid":"a","speaker":"user"}"#, 400, "`message` is missing, empty or not a string"),
            (r#"{"call_sid":"a","speaker":"user","message":""}"#, 400, "`message` is missing, empty or not a string"),
            (
                r#"{"call_sid":"a","speaker":"user","message":"m","is_final":1}"#,
                400,
                "`is_final` is neither true nor false",
            ),
            (r#"{"call_sid":"a","speaker":"user","message":"m","timestamp":"x"}"#, 400, "`timestamp` is not a time"),
            (r#"{"call_sid":"a","speaker":"user","message":"m","turn_id":{}}"#, 400, "`turn_id` is not a string"),
        ] {
            assert_eq!(rejection(turn(body).1), (status, message.to_owned()), "{body}");
        }
        let long = format!(r#"{{"call_sid":"a","speaker":"user","message":"{}"}}"#, "x".repeat(MAX_MESSAGE_BYTES + 1));
        assert_eq!(rejection(turn(&long).1).0, 413);
    }

    #[test]
    fn a_turn_keeps_its_text_and_time() {
        let body = r#"{"conversation_id":"c","speaker":"tool","message":"a\u0000\ud83d\ude00","timestamp":1790855035.5,"call_sid":null,"x":1}"#;
        let Change::Turn(turn) = turn(body).1 else { panic!("no turn") };
        assert_eq!(turn.text, "a\0😀");
        assert_eq!(turn.at.map(|at| at.to_string()).as_deref(), Some("2026-10-01T11:43:55.500000Z"));
        assert!(turn.is_final && turn.speaker == Speaker::Tool);
    }
}
