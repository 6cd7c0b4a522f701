//! Tests of [`super::FreshNames`].
#![allow(clippy::unwrap_used)]

use serde_json::Value;

use super::*;
use crate::clock;

const TRANSCRIPTION: &str = r#"{"type":"post_call_transcription","event_timestamp":1790855035,
 "data":{"conversation_id":"conv_1001kdesk0twilio0inbound0000","big":1e400,
 "transcript":[{"message":"about conv_1001kdesk0twilio0inbound0000!","time_in_call_secs":4}],
 "metadata":{"start_time_unix_secs":1790855000,"call_duration_secs":35,"phone_call":{"call_sid":"CA00000000000000000000000000000010"}},
 "conversation_initiation_client_data":{"dynamic_variables":{"system__call_sid":"CA00000000000000000000000000000010",
 "system__time_utc":"2026-10-01T14:03:20.5Z","our_call_sid":"EL_dispatch_1790855000"}}}}"#;
const AUDIO: &str = r#"{"type":"post_call_audio","event_timestamp":1790855041,
 "data":{"conversation_id":"conv_1001kdesk0twilio0inbound0000","full_audio":"SUQzconv_1AAA"}}"#;

fn payloads(texts: &[&str]) -> Vec<Payload> {
    texts.iter().flat_map(|text| Payload::read(text).unwrap()).collect()
}

fn json(payload: &Payload) -> Value {
    serde_json::from_str(&payload.body.replace("1e400", "1e40")).unwrap()
}

#[test]
fn names_change_alike_everywhere() {
    let old = payloads(&[TRANSCRIPTION, AUDIO]);
    let new = FreshNames::of(&old).rewrite(&old);
    let (call, audio) = (json(&new[0]), json(&new[1]));
    let id = call["data"]["conversation_id"].as_str().unwrap();
    assert!(id.starts_with("conv_") && id != "conv_1001kdesk0twilio0inbound0000" && id.len() <= 128, "{id}");
    assert_eq!(audio["data"]["conversation_id"], id);
    assert_eq!(call["data"]["transcript"][0]["message"], format!("about {id}!"));
    let sid = call["data"]["metadata"]["phone_call"]["call_sid"].as_str().unwrap();
    assert!(sid.starts_with("CA") && sid.len() == 34 && sid != "CA00000000000000000000000000000010", "{sid}");
    let variables = &call["data"]["conversation_initiation_client_data"]["dynamic_variables"];
    assert_eq!(variables["system__call_sid"], sid);
    assert!(variables["our_call_sid"].as_str().unwrap().starts_with("EL_dispatch_"));
    assert_eq!(audio["data"]["full_audio"], "SUQzconv_1AAA");
    assert!(new.iter().all(|payload| !payload.body.contains("conv_1001kdesk")));
}

#[test]
fn times_move_together_and_lengths_stay() {
    let old = payloads(&[TRANSCRIPTION]);
    let new = json(&FreshNames::of(&old).rewrite(&old)[0]);
    let start = new["data"]["metadata"]["start_time_unix_secs"].as_i64().unwrap();
    let now = clock::unix_secs();
    assert!((now - 5..=now).contains(&start), "{start}");
    assert_eq!(new["event_timestamp"].as_i64().unwrap() - start, 35);
    assert_eq!(new["data"]["metadata"]["call_duration_secs"], 35);
    assert_eq!(new["data"]["transcript"][0]["time_in_call_secs"], 4);
    let spoken = &new["data"]["conversation_initiation_client_data"]["dynamic_variables"]["system__time_utc"];
    let spoken = Timestamp::parse_rfc3339(spoken.as_str().unwrap()).unwrap();
    assert_eq!(spoken.as_unix_secs() - start, 1_790_863_400 - 1_790_855_000);
}

#[test]
fn two_rounds_are_two_calls() {
    let old = payloads(&[TRANSCRIPTION]);
    let id = |fresh: FreshNames| fresh.name("conv_1001kdesk0twilio0inbound0000").to_owned();
    assert_ne!(id(FreshNames::of(&old)), id(FreshNames::of(&old)));
}

#[test]
fn short_names_change_only_as_a_whole() {
    let old = payloads(&[r#"{"type":"x","data":{"conversation_id":"a1","note":"a1b a1","again":"a1"}}"#]);
    let new = json(&FreshNames::of(&old).rewrite(&old)[0]);
    assert_eq!(new["data"]["note"], "a1b a1");
    assert_eq!(new["data"]["again"], new["data"]["conversation_id"]);
    assert_ne!(new["data"]["again"], "a1");
}

#[test]
fn the_same_seed_names_the_same_calls() {
    let old = payloads(&[TRANSCRIPTION, AUDIO]);
    let body = |seed: &str| FreshNames::seeded(&old, seed, 1).rewrite_shifted(&old, 0)[0].body.clone();
    assert_eq!(body("a"), body("a"));
    assert_ne!(body("a"), body("b"));
}
