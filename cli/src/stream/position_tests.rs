//! Tests of [`super::Position`].
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

const CALL: &str = "00000000-0000-0000-0000-000000000007";
const OTHER: &str = "00000000-0000-0000-0000-000000000008";

fn position(start: Start) -> Position {
    let identifier = Identifier::parse("EL_a_1").unwrap();
    Position::new(&Request { identifier, start, wait: false, follow: true, reconnect: true })
}

fn incoming(text: &str) -> Incoming {
    Incoming::read(text.to_owned()).unwrap()
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

fn asked(position: &mut Position) -> serde_json::Value {
    serde_json::from_str(&position.subscribe()).unwrap()
}

#[test]
fn resumes_behind_the_last_event_of_the_same_call() {
    let mut position = position(Start::First);
    assert_eq!(asked(&mut position), json!({"subscribe": "EL_a_1"}));
    assert_eq!(position.take(&confirmed(CALL, "in_progress", 1)), Verdict::Pass);
    assert_eq!(asked(&mut position), json!({"subscribe": "EL_a_1", "after": 0, "call_id": CALL}));
    for seq in 1..=2 {
        assert_eq!(position.take(&turn(seq)), Verdict::Pass);
    }
    assert_eq!(asked(&mut position), json!({"subscribe": "EL_a_1", "after": 2, "call_id": CALL}));
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
    assert_eq!(asked(&mut position), json!({"subscribe": "EL_a_1", "history": false}));
    position.take(&confirmed(CALL, "in_progress", 12));
    assert_eq!(position.take(&turn(13)), Verdict::Pass);
    assert_eq!(asked(&mut position)["after"], 13);
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
    let mut position = position(Start::After(Place::after(4)));
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
    let mut position = position(Start::After(Place { seq: 9, call_id: CALL.parse().ok(), cursor: None }));
    assert_eq!(position.take(&error("CURSOR_INVALID")), Verdict::ResubscribeFromStart(Gap::CursorInvalid { after: 9 }));
    assert_eq!(asked(&mut position), json!({"subscribe": "EL_a_1"}));
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
    assert_eq!(asked(&mut position), json!({"subscribe": "EL_a_1"}));
    position.follow = false;
    assert!(!position.is_done(), "nothing of the surviving log has come");
    position.take(&confirmed(OTHER, "in_progress", 2));
    assert_eq!(position.take(&turn(1)), Verdict::Pass);
    assert!(!position.is_done());
    assert_eq!(position.take(&turn(2)), Verdict::Pass);
    assert!(position.is_done());
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
    assert_eq!(position(Start::First).take(&error("SUBSCRIPTION_FAILED")), Verdict::RetryLater("no".into()));
    assert_eq!(position(Start::First).take(&error("SOMETHING_NEW")), Verdict::Pass);
}

/// The same message with a cursor, as servers of this version send it.
fn with_cursor(incoming: &Incoming, cursor: &str) -> Incoming {
    let end = incoming.raw.rfind('}').unwrap();
    self::incoming(&format!(r#"{},"cursor":"{cursor}"}}"#, &incoming.raw[..end]))
}

const START: &str = "0.AAAAAAAH";

fn cursor(seq: Seq) -> String {
    format!("{seq}.AAAAAAAHtagOfEvent{}", seq % 10)
}

#[test]
fn a_cursor_is_all_that_is_sent() {
    let mut position = position(Start::First);
    position.take(&with_cursor(&confirmed(CALL, "in_progress", 2), START));
    assert_eq!(asked(&mut position), json!({"subscribe": "EL_a_1", "after": START}), "before the first event too");
    for seq in 1..=2 {
        position.take(&with_cursor(&turn(seq), &cursor(seq)));
        assert_eq!(asked(&mut position), json!({"subscribe": "EL_a_1", "after": cursor(seq)}));
    }
    position.take(&with_cursor(&confirmed(CALL, "in_progress", 2), &cursor(2)));
    assert!(position.is_proven());
    let merged = incoming(&format!(
        r#"{{"type":"call_merged","identifier":"EL_a_1","from_call_id":"{CALL}","call_id":"{OTHER}","message":""}}"#
    ));
    position.take(&merged);
    assert_eq!(asked(&mut position), json!({"subscribe": "EL_a_1"}));
    position.take(&with_cursor(&confirmed(OTHER, "in_progress", 7), "0.AAAAAAAI"));
    assert_eq!(asked(&mut position), json!({"subscribe": "EL_a_1", "after": "0.AAAAAAAI"}));
}

#[test]
fn only_a_cursor_proves_that_nothing_is_missing() {
    let mut position = position(Start::First);
    position.take(&confirmed(CALL, "in_progress", 1));
    position.take(&turn(1));
    asked(&mut position);
    position.take(&confirmed(CALL, "in_progress", 1));
    assert!(!position.is_proven(), "a server without cursors");
    position.take(&with_cursor(&turn(2), &cursor(2)));
    asked(&mut position);
    position.take(&with_cursor(&confirmed(CALL, "in_progress", 2), &cursor(2)));
    assert!(position.is_proven());
    position.take(&confirmed(CALL, "in_progress", 2));
    assert!(!position.is_proven(), "its answer has no cursor");
}

#[test]
fn a_call_awaited_live_is_asked_for_from_its_start() {
    let pending = incoming(r#"{"type":"subscription_pending","identifier":"EL_a_1","message":""}"#);
    let mut position = position(Start::Live);
    position.wait = true;
    assert_eq!(asked(&mut position)["history"], false);
    position.take(&pending);
    assert_eq!(asked(&mut position), json!({"subscribe": "EL_a_1", "wait": true}), "after a break");
    position.take(&with_cursor(&confirmed(CALL, "in_progress", 3), START));
    assert!(position.is_proven());
    for seq in 1..=3 {
        assert_eq!(position.take(&turn(seq)), Verdict::Pass, "{seq}");
    }
}

#[test]
fn live_begins_where_the_confirmation_says() {
    let mut position = position(Start::Live);
    asked(&mut position);
    // The call was made by an event that is delivered too, so the log's head is not where the subscription starts.
    position.take(&with_cursor(&confirmed(CALL, "in_progress", 1), START));
    assert_eq!(position.take(&turn(1)), Verdict::Pass);
    // The text of a cursor is the server's: one that cannot be read is sent back all the same.
    let mut position = self::position(Start::Live);
    position.take(&with_cursor(&confirmed(CALL, "in_progress", 12), "v9:opaque"));
    assert_eq!(asked(&mut position)["after"], "v9:opaque");
    assert_eq!(position.take(&turn(13)), Verdict::Pass);
    assert_eq!(position.take(&turn(15)), Verdict::Hole(Gap::Hole { expected: 14, found: 15 }));
}

#[test]
fn a_server_that_refuses_cursors_gets_a_seq() {
    let place = Place { seq: 4, call_id: CALL.parse().ok(), cursor: cursor(4).parse().ok() };
    let mut position = position(Start::After(place));
    assert_eq!(asked(&mut position)["after"], cursor(4));
    assert_eq!(position.take(&error("INVALID_MESSAGE_FORMAT")), Verdict::ResubscribeWithSeq);
    assert_eq!(asked(&mut position), json!({"subscribe": "EL_a_1", "after": 4, "call_id": CALL}));
    assert!(matches!(position.take(&error("INVALID_MESSAGE_FORMAT")), Verdict::Refused(_)), "and not for ever");
}

#[test]
fn a_name_that_leads_to_another_record_is_a_gap() {
    let mut position = position(Start::First);
    position.take(&confirmed(CALL, "in_progress", 1));
    position.take(&turn(1));
    assert_eq!(position.take(&confirmed(OTHER, "in_progress", 4)), Verdict::Hole(Gap::CursorInvalid { after: 1 }));
    assert_eq!(asked(&mut position), json!({"subscribe": "EL_a_1"}));
}
