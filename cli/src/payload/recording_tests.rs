//! Tests of [`super`].
#![allow(clippy::unwrap_used)]

use super::*;
use serde_json::Value;

fn delivery(body: &str, at: &str) -> String {
    json!({"delivery_id": "x", "route": "post-call", "received_at": at, "body": body,
        "body_base64": BASE64_STANDARD.encode(body), "headers": [["ElevenLabs-Signature", "t=1,v0=ab"]]})
    .to_string()
}

#[test]
fn deliveries_come_back_byte_for_byte_and_in_the_order_in_which_they_came() {
    let late = delivery("{\"type\": \"late\" }\n", "2026-10-01T14:00:41Z");
    let early = delivery("{\"type\":\"early\"}", "2026-10-01T14:00:31Z");
    for text in
        [format!("{late}\n{early}\n"), format!("[{late},{early}]"), format!("{{\"deliveries\":[{late},{early}]}}")]
    {
        let read = read(&text).unwrap().unwrap();
        assert_eq!(
            read.iter().map(|payload| &payload.kind).collect::<Vec<_>>(),
            [&Kind::PostCall("early".into()), &Kind::PostCall("late".into())]
        );
        let raw_request = read[1].recorded.as_ref().unwrap().raw_request.as_ref().unwrap();
        assert_eq!(raw_request.bytes, b"{\"type\": \"late\" }\n");
        assert_eq!(raw_request.headers, [("ElevenLabs-Signature".to_owned(), "t=1,v0=ab".to_owned())]);
    }
}

#[test]
fn a_delivery_that_was_refused_can_still_be_sent() {
    let bytes = BASE64_STANDARD.encode([0xff, 0xfe]);
    let text = format!(r#"{{"headers":{{"A":"b"}},"body":null,"body_base64":"{bytes}","route":"post-call"}}"#);
    let payload = &read(&text).unwrap().unwrap()[0];
    assert_eq!(payload.recorded.as_ref().unwrap().raw_request.as_ref().unwrap().bytes, [0xff, 0xfe]);
    let gone = read(r#"{"headers":{},"body":null,"body_base64":null}"#).unwrap().unwrap_err();
    assert!(gone.contains("no longer kept"), "{gone}");
    assert!(read(r#"{"headers":{},"body_base64":"***"}"#).unwrap().unwrap_err().contains("Base64"));
}

const STREAM: &str = r#"{"type":"subscription_confirmed","identifier":"c1","call_sid":"EL_a_1","conversation_id":"c1","seq":4}
{"type":"ready","identifier":"c1","after":0}
{"type":"transcription","conversation_id":"c1","call_sid":"EL_a_1","sequence_number":1,"speaker_type":"agent","message_text":"Hi \"you\"","timestamp":"2026-10-01T14:00:31.5Z","seq":1}
{"type":"transcription","conversation_id":"c1","call_sid":"EL_a_1","sequence_number":2,"speaker_type":"user","message_text":"Bye","timestamp":"2026-10-01T14:00:40Z","seq":2}
{"type":"transcription","conversation_id":"c1","call_sid":"EL_a_1","sequence_number":2,"speaker_type":"user","message_text":"Bye","timestamp":"2026-10-01T14:00:40Z","seq":2}
{"type":"call_status","conversation_id":"c1","call_sid":"EL_a_1","status":"completed","seq":3}
{"type":"call_completed","conversation_id":"c1","call_sid":"EL_a_1","call_data":{"status":"completed","duration_seconds":12,"call_end_time":"2026-10-01T14:00:43.000000Z","metadata":{"cost":7},"analysis_data":{"call_successful":"success"}},"seq":4}
{"type":"end","reason":"call_ended"}
"#;

#[test]
fn a_saved_tail_is_the_webhooks_that_made_it() {
    let read = read(STREAM).unwrap().unwrap();
    let bodies: Vec<Value> = read.iter().map(|payload| serde_json::from_str(&payload.body).unwrap()).collect();
    assert_eq!(read.len(), 3, "the turn that came twice is one");
    assert_eq!((&bodies[0]["message"], &bodies[0]["turn_id"]), (&json!("Hi \"you\""), &json!("s1")));
    assert_eq!(bodies[2]["type"], "post_call_transcription");
    let data = &bodies[2]["data"];
    assert_eq!(data["transcript"][1]["time_in_call_secs"], 9.0);
    assert_eq!(data["metadata"], json!({"cost": 7, "call_duration_secs": 12, "start_time_unix_secs": 1_790_863_231}));
    assert_eq!(data["analysis"]["call_successful"], "success");
    assert!(read[2].live_turns().is_none(), "its turns are there already");
}

#[test]
fn a_line_cut_off_at_the_end_is_left_out_and_one_in_the_middle_is_no_recording() {
    let cut = &STREAM[..STREAM.len() - 20];
    assert_eq!(read(cut).unwrap().unwrap().len(), 3);
    let broken = STREAM.replacen("\"speaker_type\"", "speaker", 1);
    assert!(read(&broken).is_none());
}

#[test]
fn a_payload_on_each_line() {
    let read = read("{\"type\":\"a\"}\n\n{\"type\":\"b\",\"data\":{\"x\": 1e400}}\n").unwrap().unwrap();
    assert_eq!(read[1].body, "{\"type\":\"b\",\"data\":{\"x\": 1e400}}");
    assert_eq!(super::read("{\"type\":\"a\"}\n{}\n").unwrap().unwrap_err().split(':').next(), Some("line 2"));
    assert!(super::read("{\"type\":\"a\"}").is_none());
}
