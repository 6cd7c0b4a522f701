//! Bodies of both webhooks. The first byte of the input chooses the webhook.
//!
//! No body may panic. The messages of an accepted body must be equal after they are written as JSON and parsed again,
//! because the log stores them as JSON.

#![no_main]

use callscope_common::api::WebhookRoute;
use callscope_common::protocol::{CallCompleted, ServerMessage, Transcription};
use callscope_common::{CallData, Timestamp};
use callscope_server::ingest::naming::{CallLinks, Naming};
use callscope_server::ingest::{WebhookRequest, read_delivery};
use callscope_server::log::{Change, Names, DedupKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((route, body)) = input.split_first() else { return };
    let route = if route % 2 == 0 { WebhookRoute::Transcription } else { WebhookRoute::PostCall };
    let at = Timestamp::from_unix_secs(1_790_855_035).expect("a time");
    let webhook = || WebhookRequest { route, remote_addr: None, headers: Vec::new(), body: body.to_vec() };
    let delivery = read_delivery(webhook(), at, Some(1_790_855_035), &Naming::by_links(CallLinks::new(&[])));
    assert_eq!(delivery.body, body);
    assert!(delivery.kind.as_ref().is_none_or(|kind| kind.chars().all(|c| !c.is_control())));
    assert_eq!(delivery.dedup_key == DedupKey::None, matches!(delivery.change, Change::Rejected { .. }));
    match &delivery.change {
        Change::Turn(turn) => {
            assert!((1..=65_536).contains(&turn.text.len()) && turn.names != Names::default());
            check_round_trip(&ServerMessage::Transcription(Transcription {
                conversation_id: None,
                call_sid: "EL_x_1".into(),
                transcription_id: 1,
                sequence_number: 1,
                speaker_type: turn.speaker,
                message_text: turn.text.clone(),
                timestamp: turn.at.unwrap_or(at),
                seq: 1,
                call_id: None,
                cursor: None,
            }));
        }
        Change::Result(result) => {
            assert!(result.turns.iter().all(|turn| !turn.text.is_empty() && turn.offset_secs.is_finite()));
            check_call_data(&result.data);
        }
        Change::Rejected { status, .. } => assert!(matches!(status, 400 | 413 | 415)),
        Change::Audio { bytes, .. } => assert!(!bytes.is_empty()),
        Change::Ignored { .. } => {}
    }
});

fn check_call_data(data: &CallData) {
    let stored = serde_json::to_string(data).expect("call data is JSON");
    let parsed: CallData = serde_json::from_str(&stored).expect("stored call data reads back");
    assert_eq!(serde_json::to_string(&parsed).expect("call data is JSON"), stored);
    let (conversation_id, call_sid) = (Some("conv_x".into()), "EL_x_1".into());
    check_round_trip(&ServerMessage::CallCompleted(CallCompleted { conversation_id, call_sid, call_data: data.clone(), seq: 2, call_id: None, cursor: None }));
}

fn check_round_trip(message: &ServerMessage) {
    let frame = serde_json::to_string(message).expect("a message is JSON");
    let parsed = ServerMessage::parse(&frame).expect("a stored event reads back");
    assert_eq!(serde_json::to_string(&parsed).expect("a message is JSON"), frame);
}
