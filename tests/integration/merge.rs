//! Two records that turn out to be one call.

use callscope_tests::server::{on_each_engine, texts};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_longer_record_survives_and_nothing_is_lost() {
    on_each_engine(async |_, server| {
        for text in ["a", "b", "c"] {
            server.turn("EL_long_1", "agent", text).await;
        }
        let turn = json!({"conversation_id": "conv_short", "speaker": "user", "message": "d", "turn_id": "t"});
        let first = server.webhook("transcription", &turn).await;
        let (mut long, mut short) = (server.subscriber().await, server.subscriber().await);
        let surviving_id = long.subscribe("EL_long_1").await["call_id"].clone();
        let absorbed_id = short.subscribe("conv_short").await["call_id"].clone();
        long.events(1, 3).await;
        short.events(1, 1).await;
        let end = json!({"type": "post_call_transcription", "data": {"conversation_id": "conv_short", "status": "done",
            "transcript": [{"role": "agent", "message": "never shown: turns came in live"}],
            "metadata": {"phone_call": {"call_sid": "EL_long_1"}}}});
        let reply = server.webhook("post-call", &end).await;
        assert_eq!((reply.status, &reply.json["call_sid"]), (200, &json!("EL_long_1")), "{reply:?}");
        let rest = long.events(4, 3).await;
        assert_eq!(texts(&rest), ["d"]);
        let merged = short.expect("call_merged").await;
        assert_eq!((&merged["from_call_id"], &merged["call_id"]), (&absorbed_id, &surviving_id));
        assert_eq!(texts(&short.events(1, 6).await), ["a", "b", "c", "d"]);
        let log = server.log("conv_short").await;
        assert_eq!(log, server.log("EL_long_1").await);
        assert_eq!(log, server.log(absorbed_id.as_str().unwrap()).await, "the absorbed id leads on");
        let numbers: Vec<_> = log.iter().filter_map(|event| event["sequence_number"].as_i64()).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        // A cursor of the absorbed record is invalid, and a repeat of its turn is still a repeat.
        assert_eq!(
            short.ask(json!({"subscribe": "conv_short", "after": 1, "call_id": absorbed_id}), "error").await["code"],
            "CURSOR_INVALID"
        );
        assert_eq!(server.webhook("transcription", &turn).await, first);
        assert_eq!(server.log("conv_short").await.len(), 6);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_record_ends_the_whole() {
    on_each_engine(async |_, server| {
        let failure =
            json!({"type": "call_initiation_failure", "data": {"conversation_id": "conv_f", "failure_reason": "busy"}});
        server.webhook("post-call", &failure).await;
        for text in ["a", "b", "c"] {
            server.turn("EL_f_1", "agent", text).await;
        }
        let mut subscriber = server.follower("EL_f_1", 3).await;
        let both = json!({"call_sid": "EL_f_1", "conversation_id": "conv_f", "speaker": "user", "message": "d"});
        assert_eq!(server.webhook("transcription", &both).await.json["seq"], 6);
        let rest = subscriber.events(4, 2).await;
        assert_eq!((&rest[0]["status"], &rest[1]["call_data"]["failure_reason"]), (&json!("failed"), &json!("busy")));
        assert_eq!(server.get("/api/v1/calls/EL_f_1").await["status"], "failed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_conversations_that_share_a_providers_sid_stay_two_calls() {
    on_each_engine(async |_, server| {
        for conversation in ["conv_one", "conv_two"] {
            let end = json!({"type": "post_call_transcription", "data": {"conversation_id": conversation,
                "status": "done",
                "transcript": [{"role": "agent", "message": conversation}],
                "metadata": {"phone_call": {"call_sid": "CA_shared"}}}});
            assert_eq!(server.webhook("post-call", &end).await.status, 200);
        }
        assert_eq!(texts(&server.log("conv_one").await), ["conv_one"]);
        assert_eq!(texts(&server.log("conv_two").await), ["conv_two"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_turn_can_merge_two_records() {
    on_each_engine(async |_, server| {
        let first = server
            .webhook(
                "transcription",
                &json!({"conversation_id": "conv_r", "speaker": "user", "message": "a", "turn_id": "t"}),
            )
            .await;
        for text in ["b", "c"] {
            server.turn("EL_r_1", "agent", text).await;
        }
        let both = json!({"conversation_id": "conv_r", "call_sid": "EL_r_1", "speaker": "user", "message": "a",
            "turn_id": "t"});
        assert_eq!(server.webhook("transcription", &both).await, first, "answered like the first");
        assert_eq!(texts(&server.log("conv_r").await), ["b", "c", "a"]);
    })
    .await;
}
