//! A delivery takes effect at most once, even if copies arrive at the same time.

use std::collections::HashSet;

use callscope_common::api::{CallPatch, NewCall};
use callscope_common::{CallStatus, Identifier, Timestamp};
use callscope_server::ingest::receipt::render;
use callscope_server::log::{Notification, Operation, Patch, Register, UnknownCalls};
use callscope_server::store::events::Page;
use callscope_server::store::{LogWriter, Store};
use callscope_tests::server::{on_each_engine, unix_secs};
use callscope_tests::{Database, Engine, Server};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_equal_deliveries_make_one_event() {
    on_each_engine(async |_, server| {
        let body = json!({"call_sid": "EL_same_1", "speaker": "user", "message": "yes"}).to_string();
        let at = unix_secs();
        let replies = join_all((0..100).map(|_| server.post_signed("transcription", body.as_bytes(), at, &[]))).await;
        assert!(replies.iter().all(|reply| *reply == replies[0] && reply.status == 201), "{:?}", replies[0]);
        assert_eq!(server.log("EL_same_1").await.len(), 1);
        let duplicates = server.get("/api/v1/admin/deliveries?verdict=duplicate&limit=500").await;
        assert_eq!(duplicates["deliveries"].as_array().unwrap().len(), 99);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_deliveries_at_two_servers_make_one_event() {
    let (first, second) = Server::pair_on_postgres().await;
    let at = unix_secs();
    for round in 0..20 {
        let body = json!({"call_sid": "EL_two_1", "speaker": "user", "message": format!("{round}")}).to_string();
        let replies = join_all((0..10).map(|i| {
            let server = if i % 2 == 0 { &first } else { &second };
            server.post_signed("transcription", body.as_bytes(), at, &[])
        }))
        .await;
        assert!(replies.iter().all(|reply| *reply == replies[0] && reply.status == 201), "{replies:?}");
    }
    assert_eq!(first.log("EL_two_1").await.len(), 20);
}

/// No call exists yet whose row lock could serialize these deliveries, so the unique index alone decides.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_taken_once_even_by_different_calls_at_two_servers() {
    let (first, second) = Server::pair_on_postgres().await;
    for round in 0..20 {
        let key = format!("key-{round}");
        let replies = join_all((0..10).map(|i| {
            let server = if i % 2 == 0 { &first } else { &second };
            let body =
                json!({"call_sid": format!("EL_key_{round}_{i}"), "speaker": "user", "message": "mine"}).to_string();
            let key = key.as_str();
            async move {
                server
                    .post_signed("transcription", body.as_bytes(), unix_secs(), &[("Idempotency-Key", key)])
                    .await
                    .status
            }
        }))
        .await;
        let accepted = replies.iter().filter(|status| **status == 201).count();
        let refused = replies.iter().filter(|status| **status == 409).count();
        assert_eq!((accepted, refused), (1, 9), "{replies:?}");
    }
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
    let (first, second) = Server::pair_on_postgres().await;
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
            server.post_signed("transcription", body.as_bytes(), at, &headers).await
        };
        let at = unix_secs();
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
async fn a_refused_delivery_is_accepted_later() {
    let server = Server::on_sqlite(&[("CALLSCOPE_UNKNOWN_CALLS", "reject")]).await;
    let body = json!({"call_sid": "EL_later_1", "speaker": "user", "message": "hello"}).to_string();
    let at = unix_secs();
    assert_eq!(server.post_signed("transcription", body.as_bytes(), at, &[]).await.status, 404);
    let call = json!({"call_sid": "EL_later_1"});
    assert_eq!(server.register(&call).await.status, 201);
    assert_eq!(server.post_signed("transcription", body.as_bytes(), at, &[]).await.status, 201);
    let verdicts: Vec<Value> = server.get("/api/v1/admin/deliveries").await["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|delivery| delivery["verdict"].clone())
        .collect();
    assert_eq!(verdicts, ["accepted", "rejected"]);
}

/// When an event is announced or acknowledged, it is in the database: another connection sees it, as another process
/// would.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_is_committed() {
    for engine in Engine::ALL {
        let database = Database::new(engine).await;
        let (store, url) = (database.open().await, database.url.clone());
        let own = store.clone();
        let (results_sender, mut results) = mpsc::channel(16);
        let check_committed = move |notifications: Vec<Notification>| {
            let calls: Vec<_> = notifications
                .into_iter()
                .filter_map(|notification| match notification {
                    Notification::EventsAppended { call_id, first, events } => {
                        Some((call_id, first + i64::try_from(events.len()).unwrap()))
                    }
                    _ => None,
                })
                .collect();
            let (url, own) = (url.clone(), own.clone());
            // Joining the thread blocks the log writer, so nothing is committed between the announcement and this read.
            let reader = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    // An SQLite file can be opened only once, so the same store reads it, on another connection.
                    let other = if own.is_shared() { Store::open(&url).await.unwrap() } else { own };
                    let mut results = Vec::new();
                    for (call_id, end) in calls {
                        let events = other.events(call_id, 0, Page { rows: 1_000, bytes: usize::MAX }).await.unwrap();
                        results.push(events.last().map(|event| event.seq + 1) == Some(end));
                    }
                    results
                })
            });
            for is_committed in reader.join().unwrap() {
                results_sender.try_send(is_committed).unwrap();
            }
        };
        let (log_writer, _task) =
            LogWriter::start(store, UnknownCalls::Create, render, Box::new(check_committed)).unwrap();
        for i in 0..3 {
            let at = Timestamp::from_unix_secs(1_790_855_000 + i).unwrap();
            let call =
                NewCall { call_sid: Some(Identifier::parse(&format!("EL_seen_{i}")).unwrap()), ..NewCall::default() };
            let register = Register { call_id: Uuid::new_v4(), at, call };
            let id = Identifier::parse(&register.call_id.to_string()).unwrap();
            log_writer.submit(Operation::Register(Box::new(register))).await.unwrap();
            let patch = CallPatch { status: Some(CallStatus::Completed), ..CallPatch::default() };
            log_writer.submit(Operation::Patch(Box::new(Patch { id, patch }))).await.unwrap();
            assert!(results.recv().await.unwrap(), "{engine:?}: announced before it was committed");
        }
    }
}
