//! A delivery takes effect at most once, whatever comes at the same time.

use std::collections::HashSet;

use callscope_tests::server::{now, on_each_engine};
use callscope_tests::{Database, Engine, Server};
use futures_util::future::join_all;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_equal_deliveries_make_one_event() {
    on_each_engine(async |_, server| {
        let body = json!({"call_sid": "EL_same_1", "speaker": "user", "message": "yes"}).to_string();
        let at = now();
        let replies = join_all((0..100).map(|_| server.signed("transcription", body.as_bytes(), at, &[]))).await;
        assert!(replies.iter().all(|reply| *reply == replies[0] && reply.status == 201), "{:?}", replies[0]);
        assert_eq!(server.log("EL_same_1").await.len(), 1);
        let duplicates = server.get("/api/v1/admin/deliveries?verdict=duplicate&limit=500").await;
        assert_eq!(duplicates["deliveries"].as_array().unwrap().len(), 99);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_deliveries_at_two_servers_make_one_event() {
    let database = Database::new(Engine::Postgres).await;
    let (first, second) = (Server::start(&database).await, Server::start(&database).await);
    let at = now();
    for round in 0..20 {
        let body = json!({"call_sid": "EL_two_1", "speaker": "user", "message": format!("{round}")}).to_string();
        let replies = join_all((0..10).map(|i| {
            let server = if i % 2 == 0 { &first } else { &second };
            server.signed("transcription", body.as_bytes(), at, &[])
        }))
        .await;
        assert!(replies.iter().all(|reply| *reply == replies[0] && reply.status == 201), "{replies:?}");
    }
    assert_eq!(first.log("EL_two_1").await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_turns_get_seqs_without_holes() {
    on_each_engine(async |_, server| {
        let server = &server;
        let replies =
            join_all((0..50).map(|i| async move { server.turn("EL_many_1", "agent", &format!("turn {i}")).await }))
                .await;
        for field in ["seq", "sequence_number"] {
            let numbers: HashSet<i64> = replies.iter().map(|reply| reply.json[field].as_i64().unwrap()).collect();
            assert_eq!(numbers, (1..=50).collect());
        }
        let ids: HashSet<i64> = replies.iter().map(|reply| reply.json["transcription_id"].as_i64().unwrap()).collect();
        assert_eq!(ids.len(), 50);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_write_one_log_without_holes() {
    let database = Database::new(Engine::Postgres).await;
    let (first, second) = (Server::start(&database).await, Server::start(&database).await);
    let (first, second) = (&first, &second);
    let replies = join_all((0..200).map(|i| async move {
        let server = if i % 2 == 0 { first } else { second };
        server.turn(&format!("EL_shared_{}", i % 3), "agent", &format!("turn {i}")).await
    }))
    .await;
    assert!(replies.iter().all(|reply| reply.status == 201), "{replies:?}");
    let mut total = 0;
    for call in 0..3 {
        let log = first.log(&format!("EL_shared_{call}")).await;
        let seqs: Vec<i64> = log.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
        assert_eq!(seqs, (1..=i64::try_from(log.len()).unwrap()).collect::<Vec<_>>());
        total += log.len();
    }
    assert_eq!(total, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_two_deliveries_the_same() {
    on_each_engine(async |_, server| {
        let turn = |message: &str, turn_id: Option<&str>| {
            json!({"call_sid": "EL_id_1", "speaker": "user", "message": message, "turn_id": turn_id}).to_string()
        };
        let post = async |body: &str, at: i64, key: Option<&str>| {
            let headers: Vec<(&str, &str)> = key.iter().map(|key| ("Idempotency-Key", *key)).collect();
            server.signed("transcription", body.as_bytes(), at, &headers).await
        };
        let at = now();
        let first = post(&turn("a", Some("t1")), at, None).await;
        assert_eq!(post(&turn("a, differently", Some("t1")), at - 5, None).await, first, "an equal turn_id");
        let again = post(&turn("b", None), at, None).await;
        assert_eq!(post(&turn("b", None), at, None).await, again, "equal bytes, equal signature");
        assert_ne!(post(&turn("b", None), at - 1, None).await, again, "equal bytes, another signature");
        let keyed = post(&turn("c", None), at, Some("k")).await;
        assert_eq!(post(&turn("c", None), at - 9, Some("k")).await, keyed, "an equal key");
        assert_eq!(post(&turn("d", None), at, Some("k")).await.status, 409, "an equal key, another body");
        assert_eq!(server.log("EL_id_1").await.len(), 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_delivery_is_welcome_later() {
    let database = Database::new(Engine::Sqlite).await;
    let server = Server::with(&database, &[("CALLSCOPE_UNKNOWN_CALLS", "reject")]).await;
    let body = json!({"call_sid": "EL_later_1", "speaker": "user", "message": "hello"}).to_string();
    let at = now();
    assert_eq!(server.signed("transcription", body.as_bytes(), at, &[]).await.status, 404);
    let call = json!({"call_sid": "EL_later_1"});
    assert_eq!(server.api(reqwest::Method::POST, "/api/v1/calls", Some(&call)).await.status, 201);
    assert_eq!(server.signed("transcription", body.as_bytes(), at, &[]).await.status, 201);
    let verdicts: Vec<Value> = server.get("/api/v1/admin/deliveries").await["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|delivery| delivery["verdict"].clone())
        .collect();
    assert_eq!(verdicts, ["accepted", "rejected"]);
}
