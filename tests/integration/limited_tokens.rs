//! What a token that is limited to some calls can learn about others, and how mistaken requests are answered.

use callscope_tests::server::{limited_token, on_each_engine};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_token_learns_nothing_about_other_calls() {
    on_each_engine(async |_, server| {
        for at in 0..5 {
            let call =
                json!({"call_sid": format!("EL_secret_{at}"), "subject": "topsecret", "agent_id": "agent_hidden"});
            server.register(&call).await;
            server.turn(&format!("EL_mine_{at}"), "user", "mine").await;
        }
        let scoped = limited_token(&["EL_mine_0", "EL_mine_3", "EL_never"]);
        let list = async |query: &str| {
            let (status, list) = server.api_as(&scoped, Method::GET, &format!("/api/v1/calls{query}")).await;
            assert_eq!(status, 200, "{query}: {list}");
            list
        };
        for query in ["?limit=1&q=topsecret", "?limit=1&agent_id=agent_hidden", "?q=EL_secret", "?q=topsecrey"] {
            assert_eq!(list(query).await, json!({"calls": [], "next_cursor": null}), "{query}");
        }
        let first = list("?limit=1").await;
        assert_eq!(first["calls"][0]["call_sid"], "EL_mine_3");
        let second = list(&format!("?limit=1&cursor={}", first["next_cursor"].as_str().unwrap())).await;
        assert_eq!((&second["calls"][0]["call_sid"], &second["next_cursor"]), (&json!("EL_mine_0"), &json!(null)));
        // The answer is the same for what is not allowed and for what does not exist.
        let foreign = server.call_id("EL_secret_1").await;
        let absent = uuid::Uuid::new_v4().to_string();
        for path in ["", "/events", "/transcript", "/audio"] {
            let mut answers = Vec::new();
            for id in ["EL_secret_1", "EL_absent_1", &foreign, &absent] {
                answers.push(server.api_as(&scoped, Method::GET, &format!("/api/v1/calls/{id}{path}")).await);
            }
            assert!(answers.iter().all(|answer| *answer == answers[0] && answer.0 == 403), "{path}: {answers:?}");
        }
        assert_eq!(server.api_as(&scoped, Method::GET, "/api/v1/calls/EL_never").await.0, 404);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn misspelt_and_unstorable_values_are_refused_with_a_reason() {
    on_each_engine(async |engine, server| {
        server.turn("EL_t_1", "user", "hello").await;
        for path in [
            "/api/v1/calls?stauts=failed",
            "/api/v1/calls/EL_t_1/events?afer=1",
            "/api/v1/calls/EL_t_1/transcript?fromat=txt",
            "/api/v1/admin/deliveries?verdcit=accepted",
            "/api/v1/calls/EL_t_1?x",
        ] {
            let reply = server.api(Method::GET, path, None).await;
            assert_eq!(reply.status, 400, "{engine:?} {path}: {reply:?}");
            assert!(reply.json["message"].as_str().unwrap().contains("no parameter"), "{reply:?}");
        }
        let long = "x".repeat(201);
        for body in [
            json!({"sujbect": "x"}),
            json!({"agent_id": "x\u{0}y"}),
            json!({"subject": ""}),
            json!({"subject": "a\u{0}"}),
            json!({"subject": long}),
            json!({"subject": 7}),
        ] {
            for (method, path) in [(Method::POST, "/api/v1/calls"), (Method::PATCH, "/api/v1/calls/EL_t_1")] {
                let reply = server.api(method.clone(), path, Some(&body)).await;
                assert_eq!(reply.status, 400, "{engine:?} {method} {body}: {reply:?}");
            }
        }
        // A subject is any text. Only a subject that becomes a part of a sid must fit into one.
        let free = json!({"subject": "Mr. Müller, towing 🚚", "call_sid": "EL_free_1"});
        assert_eq!(server.register(&free).await.status, 201);
        assert_eq!(server.register(&json!({"subject": "Mr. Müller"})).await.status, 400);
        let patched = server.patch("EL_t_1", &json!({"subject": "Mr. Müller"})).await;
        assert_eq!((patched.status, &patched.json["subject"]), (200, &json!("Mr. Müller")));
        assert!(patched.json["last_event_at"].is_string() && patched.json["head"] == 1, "{patched:?}");
    })
    .await;
}

/// Answers are read from the database in pieces, and arrive complete all the same.
#[tokio::test(flavor = "multi_thread")]
async fn large_logs_and_recordings_arrive_complete() {
    use base64::Engine as _;
    on_each_engine(async |_, server| {
        for at in 0..20 {
            server.turn("EL_large_1", "user", &format!("{at} {}", "x".repeat(60_000))).await;
        }
        let list = server.get("/api/v1/calls/EL_large_1/events?after=2&limit=15").await;
        let seqs: Vec<i64> =
            list["events"].as_array().unwrap().iter().map(|event| event["seq"].as_i64().unwrap()).collect();
        assert_eq!((seqs, &list["head"]), ((3..18).collect(), &json!(20)));
        assert_eq!(server.get("/api/v1/calls/EL_large_1/events?after=20").await, json!({"events": [], "head": 20}));
        assert_eq!(server.get("/api/v1/calls/EL_large_1/transcript").await["turns"].as_array().unwrap().len(), 20);
        let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let audio = base64::prelude::BASE64_STANDARD.encode(&bytes);
        let webhook =
            json!({"type": "post_call_audio", "data": {"conversation_id": "conv_large", "full_audio": audio}});
        assert_eq!(server.webhook("post-call", &webhook).await.status, 200);
        let path = "/api/v1/calls/conv_large/audio";
        let whole = server.fetch(path, &[]).await;
        assert_eq!((whole.status().as_u16(), whole.content_length()), (200, Some(300_000)));
        let etag = whole.headers()["etag"].to_str().unwrap().to_owned();
        assert!(whole.bytes().await.unwrap() == bytes);
        for (range, first, last) in [
            ("bytes=0-0", 0, 0),
            ("bytes=65535-65536", 65_535, 65_536),
            ("bytes=131072-", 131_072, 299_999),
            ("bytes=-1", 299_999, 299_999),
            ("bytes=1000-290000", 1_000, 290_000),
        ] {
            let part = server.fetch(path, &[("Range", range), ("If-Range", &etag)]).await;
            assert_eq!(part.status().as_u16(), 206, "{range}");
            assert!(part.bytes().await.unwrap() == bytes[first..=last], "{range}");
        }
        // For a range of another recording, the whole of the present one is sent.
        let other = server.fetch(path, &[("Range", "bytes=0-0"), ("If-Range", "\"another\"")]).await;
        assert_eq!((other.status().as_u16(), other.content_length()), (200, Some(300_000)));
        // A second recording replaces the first.
        let second = base64::prelude::BASE64_STANDARD.encode(b"second");
        let webhook =
            json!({"type": "post_call_audio", "data": {"conversation_id": "conv_large", "full_audio": second}});
        server.webhook("post-call", &webhook).await;
        assert_eq!(server.fetch(path, &[]).await.bytes().await.unwrap(), "second");
    })
    .await;
}
