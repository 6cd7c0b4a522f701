//! The transcript inside ElevenLabs' post-call webhooks, as turns.
//!
//! Follows the vendor's `ConversationHistoryTranscriptResponseModel` (Python SDK 2.78.0), whose enums are open and
//! whose fields may be null. The server takes the turns of a call from it if none came in live, and `callscope replay`
//! plays it.

use serde_json::value::RawValue;

use crate::Speaker;
use crate::json::{self, Object};
use crate::monotonic::make_monotonic;

/// One turn of the provider's transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderTurn {
    /// The speaker of the turn.
    pub speaker: Speaker,
    /// What was said, or the call or the result of a tool. Never empty.
    pub text: String,
    /// Seconds since the call began. They never decrease from turn to turn.
    pub offset_secs: f64,
}

/// Reads the turns of a `transcript` array, in its order. Anything that is not an array has no turns.
///
/// The message of an item becomes a turn of its role, and each tool call and tool result becomes a [`Speaker::Tool`]
/// turn. An item without any of these, such as one with an empty message, makes no turn. A role other than `user`,
/// `agent` and `assistant` counts as [`Speaker::Tool`], because it is neither of the two who talk.
#[must_use]
pub fn turns(transcript: &RawValue) -> Vec<ProviderTurn> {
    let mut turns = Vec::new();
    let items: Vec<Object<'_>> = json::array(transcript).into_iter().filter_map(json::object).collect();
    // Times are rounded to seconds and sometimes out of order. The array has the right order.
    let times: Vec<f64> = items.iter().map(|item| item.float("time_in_call_secs").unwrap_or(f64::NAN)).collect();
    for (item, offset_secs) in items.iter().zip(make_monotonic(&times)) {
        let message = item.text("message").filter(|text| !text.is_empty()).map(|text| (speaker(item), text));
        let calls = item.array("tool_calls").into_iter().filter_map(|call| tool_call(&json::object(call)?));
        let results = item.array("tool_results").into_iter().filter_map(|result| tool_result(&json::object(result)?));
        let tools = calls.chain(results).map(|text| (Speaker::Tool, text));
        turns.extend(message.into_iter().chain(tools).map(|(speaker, text)| ProviderTurn {
            speaker,
            text,
            offset_secs,
        }));
    }
    turns
}

fn speaker(item: &Object<'_>) -> Speaker {
    match item.string("role").as_deref() {
        Some("user") => Speaker::User,
        Some("agent" | "assistant") => Speaker::Agent,
        _ => Speaker::Tool,
    }
}

/// Returns `name {"its":"parameters"}`.
fn tool_call(call: &Object<'_>) -> Option<String> {
    let name = call.text("tool_name")?;
    let params = call.text("params_as_json").filter(|params| !params.is_empty());
    Some(params.map_or_else(|| format!("{name} {{}}"), |params| format!("{name} {params}")))
}

/// Returns `name -> result`, or `name failed: result`.
fn tool_result(result: &Object<'_>) -> Option<String> {
    let name = result.text("tool_name")?;
    let is_failed = result.get("is_error").is_some_and(|is_error| is_error.get() == "true");
    let value = result.text("result_value").unwrap_or_default();
    Some(if is_failed { format!("{name} failed: {value}") } else { format!("{name} -> {value}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(transcript: &str, expected: &[(Speaker, &str, f64)]) {
        let raw: Box<RawValue> = serde_json::from_str(transcript).unwrap();
        let turns = turns(&raw);
        let found: Vec<_> = turns.iter().map(|turn| (turn.speaker, turn.text.as_str(), turn.offset_secs)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn messages_and_tools_become_turns() {
        check(
            r#"[{"role":"agent","message":"Hello","time_in_call_secs":0,"tool_calls":[]},
                {"role":"user","message":null,"time_in_call_secs":3},
                {"role":"user","message":"","time_in_call_secs":3},
                {"role":"agent","message":null,"time_in_call_secs":4,
                 "tool_calls":[{"tool_name":"book","params_as_json":"{\"a\":1}"}],"tool_results":null},
                {"role":"agent","message":null,"time_in_call_secs":"5",
                 "tool_results":[{"tool_name":"book","result_value":"ok","is_error":false},
                                 {"tool_name":"book","result_value":"no","is_error":true}]},
                {"role":"user","message":"Thanks","time_in_call_secs":2}]"#,
            &[
                (Speaker::Agent, "Hello", 0.0),
                (Speaker::Tool, r#"book {"a":1}"#, 4.0),
                (Speaker::Tool, "book -> ok", 5.0),
                (Speaker::Tool, "book failed: no", 5.0),
                (Speaker::User, "Thanks", 5.0),
            ],
        );
    }

    #[test]
    fn an_odd_time_does_not_move_other_turns() {
        check(
            r#"[{"role":"agent","message":"a","time_in_call_secs":1},{"role":"agent","message":"b","time_in_call_secs":1e12},
                {"role":"agent","message":"c","time_in_call_secs":3},{"role":"agent","message":"d"}]"#,
            &[
                (Speaker::Agent, "a", 1.0),
                (Speaker::Agent, "b", 1.0),
                (Speaker::Agent, "c", 3.0),
                (Speaker::Agent, "d", 3.0),
            ],
        );
    }

    #[test]
    fn turns_of_odd_shapes_are_read_as_far_as_possible() {
        check("null", &[]);
        check(r#"{"role":"agent"}"#, &[]);
        check(
            r#"[1, null, {"role":"supervisor","message":"barge in"}, {"message":17,"role":7}]"#,
            &[(Speaker::Tool, "barge in", 0.0), (Speaker::Tool, "17", 0.0)],
        );
    }
}
