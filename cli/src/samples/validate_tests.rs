//! Tests of [`super::validate`].

use super::*;

fn check(body: &str, expected: &[(Level, &str, &str)]) {
    let remarks = validate(body);
    let found: Vec<_> =
        remarks.iter().map(|remark| (remark.level, remark.path.as_str(), remark.what.as_str())).collect();
    assert_eq!(found, expected, "{body}");
}

const CALL: &str = r#"{"type":"post_call_transcription","event_timestamp":1,"data":{"agent_id":"a","conversation_id":"c",
    "status":"done","has_audio":true,"has_user_audio":true,"has_response_audio":true,
    "metadata":{"start_time_unix_secs":1,"call_duration_secs":2,"cost":null},"transcript":[
    {"role":"agent","message":null,"time_in_call_secs":0}]}}"#;

#[test]
fn a_valid_payload_has_no_remarks() {
    check(CALL, &[]);
    check(r#"{"call_sid":"EL_a_1","speaker":"user","message":"m","timestamp":"2026-10-01T14:00:31Z"}"#, &[]);
}

#[test]
fn a_refused_payload_has_a_remark_with_a_path() {
    check("[", &[(Level::Refused, "", "not JSON: EOF while parsing a list at line 1 column 1")]);
    check("7", &[(Level::Refused, "", "the body is not a JSON object")]);
    check("{}", &[(Level::Refused, "type", "is missing or not a text; it is the type of the webhook")]);
    check(
        &CALL.replace(r#""c""#, "7"),
        &[(Level::Refused, "data.conversation_id", "is a whole number; it has to be a text that identifies the call")],
    );
    check(
        &CALL.replace(r#""conversation_id":"c","#, ""),
        &[(Level::Refused, "data.conversation_id", "is missing; it identifies the call")],
    );
    check(
        r#"{"speaker":"boss","message":"","is_final":1,"timestamp":"soon"}"#,
        &[
            (Level::Refused, "", "call_sid and conversation_id are both missing; a turn needs one of them"),
            (Level::Refused, "speaker", "is none of agent, user, tool"),
            (Level::Refused, "message", "is empty"),
            (Level::Refused, "timestamp", "is neither RFC 3339 nor Unix seconds"),
            (Level::Refused, "is_final", "is neither true nor false"),
        ],
    );
}

#[test]
fn a_difference_from_the_model_is_wrong_and_an_addition_is_unknown() {
    check(
        &CALL.replace("\"time_in_call_secs\":0", "\"time_in_call_secs\":\"0\",\"mood\":1"),
        &[
            (Level::Wrong, "data.transcript[0].time_in_call_secs", "is a text; ElevenLabs sends a whole number"),
            (Level::Unknown, "data.transcript[0].mood", "is a field that is not known"),
        ],
    );
    check(
        &CALL.replace("\"agent\"", "\"supervisor\""),
        &[(Level::Unknown, "data.transcript[0].role", "\"supervisor\" is none of user, agent")],
    );
    check(
        &CALL.replace("\"has_audio\":true,", ""),
        &[(Level::Wrong, "data.has_audio", "is missing; ElevenLabs always sends it")],
    );
    check(
        r#"{"type":"new","event_timestamp":1,"data":{}}"#,
        &[(Level::Unknown, "type", "Callscope stores the type new and otherwise ignores it")],
    );
}
