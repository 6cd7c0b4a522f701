//! Tests of [`super::Work`].
#![allow(clippy::unwrap_used)]

use super::*;
use crate::payload::Kind;
use crate::replay::from_text;
use serde_json::Value;

fn source(name: &str, text: &str) -> Source {
    from_text(name.into(), text).unwrap()
}

fn options(repeat: u32, fresh: bool) -> Options {
    Options { speed: "max".parse().unwrap(), repeat, concurrency: 1, fresh, turns: true }
}

fn bodies(work: &Work<'_>, job: Job, now: i64) -> Vec<Value> {
    let steps = work.script(job, |_, _| now).steps;
    steps.into_iter().map(|step| serde_json::from_slice(&step.deliver("k").body).unwrap()).collect()
}

const CALL: &str = r#"{"type":"post_call_transcription","event_timestamp":1790855040,"data":{"conversation_id":"conv_first_call",
    "metadata":{"start_time_unix_secs":1790855000},"transcript":[]}}"#;
const AUDIO: &str =
    r#"{"type":"post_call_audio","event_timestamp":1790855050,"data":{"conversation_id":"conv_first_call"}}"#;
const OTHER: &str =
    r#"{"type":"call_initiation_failure","event_timestamp":1600000000,"data":{"conversation_id":"conv_other_call"}}"#;

#[test]
fn files_about_one_call_move_together_and_others_for_themselves() {
    let sources = [source("call", CALL), source("audio", AUDIO), source("other", OTHER)];
    let work = Work::new(&sources, options(1, true));
    let all: Vec<_> = work.jobs().into_iter().map(|job| bodies(&work, job, 2_000_000_000)[0].clone()).collect();
    assert_eq!(all[0]["data"]["metadata"]["start_time_unix_secs"], 2_000_000_000);
    assert_eq!(all[1]["event_timestamp"], 2_000_000_050);
    assert_eq!(all[2]["event_timestamp"], 2_000_000_000);
    assert_eq!(all[0]["data"]["conversation_id"], all[1]["data"]["conversation_id"]);
    assert_ne!(all[0]["data"]["conversation_id"], "conv_first_call");
    assert_eq!(work.call_names().len(), 2);
}

#[test]
fn each_round_is_another_call_and_the_same_one_when_it_goes_on() {
    let sources = [source("call", CALL), source("other", OTHER)];
    let work = Work::new(&sources, options(3, true));
    let again = Work::new(&sources, options(3, true)).resuming(work.id(), work.began);
    assert_eq!(work.call_names().len(), 6);
    assert_eq!(work.call_names(), again.call_names());
    assert_ne!(work.call_names(), Work::new(&sources, options(3, true)).call_names());
    assert_eq!(work.delivery_count(), 6);
}

#[test]
fn fields_are_set_on_top_of_new_names() {
    let sources = [source("call", CALL)];
    let mut work = Work::new(&sources, options(1, true));
    work.edits = vec![Edit::set("data.conversation_id=\"mine\"").unwrap(), Edit::set("type=other").unwrap()];
    assert_eq!(work.call_names(), ["mine"]);
    assert!(work.unused_edit().is_none());
    let delivery = work.script(work.jobs()[0], |_, _| 0).steps.pop().unwrap().deliver("k");
    assert_eq!(delivery.kind, "other");
    work.edits.push(Edit::remove("data.nothing.here").unwrap());
    assert_eq!(work.unused_edit().map(|edit| edit.spelled.as_str()), Some("data.nothing.here"));
}

#[test]
fn a_target_without_turns_gets_what_comes_after_the_call() {
    let text = CALL.replace("[]", r#"[{"role":"agent","message":"hi"}]"#);
    let sources = [source("call", &text)];
    let mut work = Work::new(&sources, options(1, false));
    assert_eq!(work.delivery_count(), 2);
    work.takes_turns = false;
    assert_eq!(work.delivery_count(), 1);
    assert_eq!(sources[0].payloads[0].kind, Kind::PostCall("post_call_transcription".into()));
}
