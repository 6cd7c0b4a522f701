//! What the store guarantees on both engines.

use callscope_tests::server::{on_each_engine, texts, unix_secs};
use callscope_tests::{Database, Engine, Server};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn content_is_kept_to_the_byte() {
    on_each_engine(async |_, server| {
        let said = ["emoji 👩‍🚒🇩🇪", "NUL \0 and \u{7f}\u{1b}[2J", "\"quotes\" \\ / \u{2028}", &"long ".repeat(13_000)];
        for text in said {
            assert_eq!(server.turn("EL_bytes_1", "user", text).await.status, 201);
        }
        assert_eq!(texts(&server.log("EL_bytes_1").await), said);
        // No parser would write these again in the same way: blanks, escapes and a lone surrogate.
        let body = br#"{ "call_sid" :"EL_bytes_1","speaker":"user", "message":"\ud800 \u00e9" }"#;
        assert_eq!(server.post_signed("transcription", body, unix_secs(), &[]).await.status, 201);
        assert_eq!(server.log("EL_bytes_1").await[4]["message_text"], "\u{fffd} é");
        let newest = server.get("/api/v1/admin/deliveries?limit=1").await["deliveries"][0]["delivery_id"].clone();
        let whole = server.get(&format!("/api/v1/admin/deliveries/{}", newest.as_str().unwrap())).await;
        assert_eq!(whole["body"], std::str::from_utf8(body).unwrap());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_a_restart() {
    for engine in Engine::ALL {
        let database = Database::new(engine).await;
        let server = Server::start(&database).await;
        server.turn("EL_again_1", "agent", "before").await;
        let before = server.log("EL_again_1").await;
        server.stop().await;
        let server = Server::start(&database).await;
        assert_eq!(server.log("EL_again_1").await, before);
        assert_eq!(server.turn("EL_again_1", "agent", "after").await.json["seq"], 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transcript_of_thousands_of_turns_becomes_the_calls_turns() {
    on_each_engine(async |_, server| {
        let turns: Vec<Value> = (0..3_000)
            .map(|i| {
                let role = if i % 2 == 0 { "agent" } else { "user" };
                json!({"role": role, "message": format!("turn {i}"), "time_in_call_secs": i})
            })
            .collect();
        let end = json!({"type": "post_call_transcription", "data": {"conversation_id": "conv_long", "status": "done",
            "transcript": turns, "metadata": {"start_time_unix_secs": 1_790_855_000, "call_duration_secs": 3_000}}});
        assert_eq!(server.webhook("post-call", &end).await.status, 200);
        let mut subscriber = server.subscriber().await;
        subscriber.subscribe("conv_long").await;
        let events = subscriber.events(1, 3_002).await;
        assert_eq!(events[2_999]["message_text"], "turn 2999");
        assert_eq!(events[2_999]["timestamp"], "2026-10-01T12:33:19.000000Z");
        assert_eq!(events[3_001]["type"], "call_completed");
        // The same webhook comes again with a new signature.
        assert_eq!(server.post_signed("post-call", end.to_string().as_bytes(), unix_secs() - 7, &[]).await.status, 200);
        assert_eq!(server.get("/api/v1/calls/conv_long").await["seq"], 3_002);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_ended_stays_ended() {
    on_each_engine(async |_, server| {
        let failure = |reason: &str| {
            json!({"type": "call_initiation_failure", "data": {"conversation_id": "conv_e",
            "failure_reason": reason}})
        };
        let reply = server.webhook("post-call", &failure("busy")).await;
        assert_eq!(reply.json["call_status"], "failed");
        let result = |note: &str| {
            json!({"type": "post_call_transcription", "data": {"conversation_id": "conv_e",
            "status": "done", "n": note}})
        };
        assert_eq!(server.webhook("post-call", &result("1")).await.json["call_status"], "completed");
        assert_eq!(server.webhook("post-call", &result("2")).await.json["call_status"], "completed");
        assert_eq!(server.webhook("post-call", &failure("late")).await.json["call_status"], "completed");
        let kinds: Vec<Value> = server.log("conv_e").await.iter().map(|event| event["type"].clone()).collect();
        assert_eq!(kinds, ["call_status", "call_completed", "call_status", "call_completed", "call_completed"]);
        let patch = json!({"status": "in_progress"});
        let back = server.patch("conv_e", &patch).await;
        assert_eq!(back.status, 409);
        let ignored = server.get("/api/v1/admin/deliveries?verdict=ignored").await;
        assert_eq!(ignored["deliveries"].as_array().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_listed_page_by_page() {
    on_each_engine(async |_, server| {
        for i in 0..7 {
            let agent = if i < 3 { "agent_%" } else { "b" };
            let call = json!({"subject": "paging", "call_sid": format!("EL_page_{i}"), "agent_id": agent});
            assert_eq!(server.register(&call).await.status, 201);
        }
        let mut found = Vec::new();
        let mut path = "/api/v1/calls?limit=3".to_owned();
        loop {
            let page = server.get(&path).await;
            found.extend(
                page["calls"].as_array().unwrap().iter().map(|call| call["call_sid"].as_str().unwrap().to_owned()),
            );
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("/api/v1/calls?limit=3&cursor={cursor}");
        }
        assert_eq!(found, (0..7).rev().map(|i| format!("EL_page_{i}")).collect::<Vec<_>>());
        let count =
            async |query: &str| server.get(&format!("/api/v1/calls?{query}")).await["calls"].as_array().unwrap().len();
        assert_eq!(count("q=page_6").await, 1);
        assert_eq!(count("q=%25").await, 3);
        assert_eq!(count("agent_id=b").await, 4);
        assert_eq!(count("status=completed").await, 0);
        assert_eq!(count("since=2099-01-01T00:00:00Z").await, 0);
    })
    .await;
}
