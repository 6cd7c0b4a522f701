//! Tests of [`super::Position`].
#![allow(clippy::unwrap_used)]

use super::*;

const CALL: &str = "00000000-0000-0000-0000-000000000007";
const OTHER: &str = "00000000-0000-0000-0000-000000000008";

fn position(start: Start) -> Position {
    let identifier = Identifier::parse("EL_a_1").unwrap();
    Position::new(&Request { identifier, start, wait: false, follow: true, reconnect: true })
}

fn incoming(text: &str) -> Incoming {
    let message = ServerMessage::parse(text).unwrap();
    Incoming { raw: text.to_owned(), seq: message.seq(), message }
}

fn confirmed(call_id: &str, status: &str, seq: Seq) -> Incoming {
    incoming(&format!(
        r#"{{"type":"subscription_confirmed","identifier":"EL_a_1","call_sid":"EL_a_1","conversation_id":null,
        "status":"{status}","message":"","call_id":"{call_id}","seq":{seq}}}"#
    ))
}

fn turn(seq: Seq) -> Incoming {
    incoming(&format!(
        r#"{{"type":"transcription","conversation_id":null,"call_sid":"EL_a_1","transcription_id":{seq},
        "sequence_number":{seq},"speaker_type":"agent","message_text":"hi","timestamp":"2026-10-01T14:00:31Z","seq":{seq}}}"#
    ))
}

fn completed(seq: Seq) -> Incoming {
    incoming(&format!(
        r#"{{"type":"call_completed","conversation_id":null,"call_sid":"EL_a_1","call_data":{{"status":"completed"}},"seq":{seq}}}"#
    ))
}

fn error(code: &str) -> Incoming {
    incoming(&format!(r#"{{"type":"error","message":"no","code":"{code}","identifier":"EL_a_1"}}"#))
}

fn asked(position: &Position) -> serde_json::Value {
    serde_json::from_str(&position.subscribe()).unwrap()
}

#[test]
fn resumes_behind_the_last_event_of_the_same_call() {
    let mut position = position(Start::First);
    assert_eq!(asked(&position), json!({"subscribe": "EL_a_1"}));
    assert_eq!(position.take(&confirmed(CALL, "in_progress", 1)), Verdict::Pass);
    assert_eq!(asked(&position), json!({"subscribe": "EL_a_1", "after": 0, "call_id": CALL}));
    for seq in 1..=2 {
        assert_eq!(position.take(&turn(seq)), Verdict::Pass);
    }
    assert_eq!(asked(&position), json!({"subscribe": "EL_a_1", "after": 2, "call_id": CALL}));
}

#[test]
fn repeats_are_dropped_and_holes_do_not_move_the_place() {
    let mut position = position(Start::First);
    position.take(&confirmed(CALL, "in_progress", 0));
    position.take(&turn(1));
    assert_eq!(position.take(&turn(1)), Verdict::Repeat);
    assert_eq!(position.take(&turn(3)), Verdict::Hole(Gap::Hole { expected: 2, found: 3 }));
    assert_eq!(position.place().seq, 1);
    assert_eq!(position.take(&turn(2)), Verdict::Pass);
}

#[test]
fn live_begins_at_the_head() {
    let mut position = position(Start::Live);
    assert_eq!(asked(&position), json!({"subscribe": "EL_a_1", "history": false}));
    position.take(&confirmed(CALL, "in_progress", 12));
    assert_eq!(position.take(&turn(13)), Verdict::Pass);
    assert_eq!(asked(&position)["after"], 13);
}

#[test]
fn the_end_is_the_result_with_nothing_behind_it() {
    let mut position = position(Start::First);
    position.take(&confirmed(CALL, "completed", 4));
    position.take(&turn(1));
    position.take(&completed(2));
    assert!(!position.is_done(), "two more events are in the log");
    position.take(&turn(3));
    position.take(&turn(4));
    assert!(position.is_done());
}

#[test]
fn an_ended_call_without_a_result_ends_at_its_head() {
    let mut position = position(Start::After(Place { seq: 4, call_id: None }));
    assert!(!position.is_done());
    position.take(&confirmed(CALL, "failed", 4));
    assert!(position.is_done());
    assert_eq!(position.status(), Some(CallStatus::Failed));
}

#[test]
fn a_live_call_goes_on_behind_its_head_unless_not_followed() {
    let mut position = position(Start::First);
    position.take(&confirmed(CALL, "in_progress", 1));
    position.take(&turn(1));
    assert!(!position.is_done());
    position.follow = false;
    assert!(position.is_done());
}

#[test]
fn a_bad_cursor_starts_over_and_says_where_it_stood() {
    let mut position = position(Start::After(Place { seq: 9, call_id: CALL.parse().ok() }));
    assert_eq!(position.take(&error("CURSOR_INVALID")), Verdict::Restart(Gap::CursorInvalid { after: 9 }));
    assert_eq!(asked(&position), json!({"subscribe": "EL_a_1"}));
    position.take(&confirmed(OTHER, "in_progress", 1));
    assert_eq!(position.take(&turn(1)), Verdict::Pass);
}

#[test]
fn a_merge_goes_on_with_the_other_log_from_its_start() {
    let mut position = position(Start::First);
    position.take(&confirmed(CALL, "in_progress", 5));
    position.take(&turn(1));
    let merged = incoming(&format!(
        r#"{{"type":"call_merged","identifier":"EL_a_1","from_call_id":"{CALL}","call_id":"{OTHER}","message":""}}"#
    ));
    assert_eq!(position.take(&merged), Verdict::Merged(Gap::Merged { call_id: OTHER.parse().unwrap() }));
    assert_eq!(asked(&position), json!({"subscribe": "EL_a_1", "after": 0, "call_id": OTHER}));
    assert_eq!(position.take(&turn(1)), Verdict::Pass);
}

#[test]
fn errors_stop_or_wait() {
    for (code, exit) in [
        ("CALL_NOT_FOUND", Exit::NotFound),
        ("INVALID_IDENTIFIER", Exit::Usage),
        ("FORBIDDEN", Exit::NotAllowed),
        ("AUTHENTICATION_FAILED", Exit::NotAllowed),
        ("SUBSCRIPTION_LIMIT", Exit::Error),
    ] {
        let Verdict::Refused(failure) = position(Start::First).take(&error(code)) else { panic!("{code}") };
        assert_eq!(failure.exit, exit, "{code}");
    }
    assert_eq!(position(Start::First).take(&error("SUBSCRIPTION_FAILED")), Verdict::Later("no".into()));
    assert_eq!(position(Start::First).take(&error("SOMETHING_NEW")), Verdict::Pass);
}
