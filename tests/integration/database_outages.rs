//! The database goes away, hangs, and comes back. Nothing is acknowledged that is not durable, and subscribers stay and
//! catch up.

use std::sync::Arc;

use callscope_tests::server::{http, post_webhook, texts};
use callscope_tests::{Database, Engine, Postgres, Server, until};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::Connection as _;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

/// A PostgreSQL of the test's own, and a server on it.
struct Stage {
    postgres: Postgres,
    server: Server,
    _dir: TempDir,
}

impl Stage {
    async fn new(variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let postgres = Postgres::start(dir.path().join("postgres"), dir.path().join("log"), Vec::new()).await;
        let database = Database { url: postgres.url(postgres.address), dir: tempfile::tempdir().unwrap() };
        let server = Server::start_with(&database, variables).await;
        Self { postgres, server, _dir: dir }
    }

    /// Returns the status of `/readyz` and its checks.
    async fn readiness(&self) -> (u16, Value) {
        let reply = self.server.api(Method::GET, "/readyz", None).await;
        (reply.status, reply.json["checks"].clone())
    }

    async fn until_ready(&self) {
        until("the server is ready again, by itself", async || self.readiness().await.0 == 200).await;
    }

    /// Posts a turn and returns the status and the `Retry-After`.
    async fn turn(&self, message: &str) -> (u16, Option<String>) {
        let body = json!({"call_sid": "EL_store_1", "speaker": "user", "message": message, "turn_id": message});
        let reply = self.server.webhook("transcription", &body).await;
        (reply.status, reply.retry_after)
    }
}

/// Breaks PostgreSQL, checks the server, repairs PostgreSQL, and checks the server again.
async fn outage(stage: &Stage, break_database: impl AsyncFnOnce(), repair: impl AsyncFnOnce()) {
    assert_eq!(stage.turn("before").await.0, 201);
    let mut subscriber = stage.server.follower("EL_store_1", 1).await;
    break_database().await;
    let (status, checks) = stage.readiness().await;
    assert_eq!(status, 503, "{checks}");
    assert!(checks["append"] != "ok" && checks["database"] != "ok", "{checks}");
    let refused = stage.turn("in between").await;
    assert_eq!(refused, (503, Some("1".into())));
    // The subscriber is still connected, and is served.
    subscriber.expect_silence().await;
    repair().await;
    stage.until_ready().await;
    // The provider tries again. Whether or not the first try was committed, the turn counts once.
    assert_eq!(stage.turn("in between").await.0, 201);
    assert_eq!(stage.turn("after").await.0, 201);
    let events = subscriber.events(2, 2).await;
    assert_eq!(texts(&events), ["in between", "after"]);
    subscriber.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_waits_for_a_database_that_is_gone() {
    let stage = Stage::new(&[]).await;
    let postgres = &stage.postgres;
    outage(&stage, async || postgres.stop(Signal::INT).await, async || postgres.launch().await).await;
    stage.postgres.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_waits_for_a_database_that_hangs() {
    let stage = Stage::new(&[]).await;
    let postgres = &stage.postgres;
    outage(&stage, async || postgres.signal(Signal::STOP).await, async || postgres.signal(Signal::CONT).await).await;
    stage.postgres.end().await;
}

/// PostgreSQL restarts in the middle of work, once as after a crash.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_database_needs_no_restart_of_the_server() {
    let stage = Stage::new(&[]).await;
    let mut subscriber = stage.server.subscriber().await;
    assert_eq!(stage.turn("turn 0").await.0, 201);
    subscriber.subscribe("EL_store_1").await;
    subscriber.events(1, 1).await;
    for (round, stop_signal) in [Signal::INT, Signal::QUIT].into_iter().enumerate() {
        let url = stage.server.embedded.url.clone();
        let posting = tokio::spawn(async move {
            let http = http();
            for i in 1..=30 {
                let text = format!("turn {}", round * 30 + i);
                let body = json!({"call_sid": "EL_store_1", "speaker": "user", "message": text, "turn_id": text});
                let body = body.to_string();
                loop {
                    let reply = post_webhook(&http, &url, "transcription", &body).await.unwrap();
                    if reply.status == 201 {
                        break;
                    }
                    assert_eq!(reply.status, 503, "{reply:?}");
                }
            }
        });
        stage.postgres.restart(stop_signal).await;
        posting.await.unwrap();
        subscriber.events(i64::try_from(round).unwrap() * 30 + 2, 30).await;
    }
    subscriber.expect_silence().await;
    stage.postgres.end().await;
}

/// If storage stays away, a subscriber that is owed events is closed with a code that says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_cannot_be_served_is_told_to_reconnect() {
    let stage = Stage::new(&[("CALLSCOPE_STORAGE_DEADLINE", "1")]).await;
    for i in 0..200 {
        let text = format!("{i} {}", "x".repeat(3_000));
        assert_eq!(stage.turn(&text).await.0, 201);
    }
    let mut idle = stage.server.subscriber().await;
    let mut late = stage.server.subscriber().await;
    late.subscribe("EL_store_1").await;
    // The subscriber is in the middle of the log, so the rest has to be read.
    late.events(1, 1).await;
    stage.postgres.stop(Signal::QUIT).await;
    let mut last = 1;
    let code = loop {
        match late.next().await {
            callscope_tests::subscriber::Received::Json(event) => last = event["seq"].as_i64().unwrap(),
            callscope_tests::subscriber::Received::Closed(code) => break code,
        }
    };
    idle.expect_silence().await;
    stage.postgres.launch().await;
    stage.until_ready().await;
    let mut again = stage.server.subscriber().await;
    again.ask(json!({"subscribe": "EL_store_1", "after": last}), "subscription_confirmed").await;
    again.events(last + 1, usize::try_from(200 - last).unwrap()).await;
    assert!(last == 200 || code == 4104, "closed with {code} after {last}");
    stage.postgres.end().await;
}

/// A TCP relay to the database that can abandon its connections: they stay open and forward nothing any more, as if
/// another host had taken over the address.
struct Relay {
    address: std::net::SocketAddr,
    /// A change of the number abandons all connections that exist by then.
    generation: tokio::sync::watch::Sender<u32>,
}

impl Relay {
    async fn to(target: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let generation = tokio::sync::watch::Sender::new(0);
        let generations = generation.clone();
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut changes = generations.subscribe();
                changes.mark_unchanged();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        // Both sockets stay open, and nothing is forwarded any more.
                        _ = changes.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, generation }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_do_not_answer_any_more_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let postgres = Postgres::start(dir.path().join("postgres"), dir.path().join("log"), Vec::new()).await;
    let relay = Relay::to(postgres.address).await;
    let database = Database { url: postgres.url(relay.address), dir: tempfile::tempdir().unwrap() };
    let stage = Stage { postgres, server: Server::start(&database).await, _dir: dir };
    assert_eq!(stage.turn("before").await.0, 201);
    let mut subscriber = stage.server.follower("EL_store_1", 1).await;
    relay.generation.send_modify(|number| *number += 1);
    assert_eq!(stage.turn("in between").await.0, 503);
    // Each pooled connection has to time out once before the pool replaces it.
    let mut tries = 0;
    while stage.turn("in between").await.0 != 201 {
        tries += 1;
        assert!(tries < 8, "no new connection is made");
    }
    stage.until_ready().await;
    subscriber.events(2, 1).await;
    subscriber.expect_silence().await;
    stage.postgres.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_though_connections_break_off_at_first() {
    let database = Database::new(Engine::Postgres).await;
    let (base, name) = database.url.rsplit_once('/').unwrap();
    let target: std::net::SocketAddr = base.rsplit_once('@').unwrap().1.parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://postgres@{}/{name}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for number in 0.. {
            let (mut near, _) = listener.accept().await.unwrap();
            // The first five connections are closed at once.
            if number < 5 {
                continue;
            }
            tokio::spawn(async move {
                let mut far = TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    let behind_listener = Database { url, dir: tempfile::tempdir().unwrap() };
    let server = Server::start(&behind_listener).await;
    assert_eq!(server.turn("EL_start_1", "agent", "here I am").await.status, 201);
}

/// While another client keeps a call's row locked, the operations of the call wait and keep their order, whichever of
/// its names they use.
#[tokio::test(flavor = "multi_thread")]
async fn turns_of_a_call_whose_row_was_locked_keep_their_order() {
    let database = Database::new(Engine::Postgres).await;
    let server = Arc::new(Server::start(&database).await);
    let first = json!({"call_sid": "EL_order_1", "conversation_id": "conv_order", "speaker": "agent", "message": "0"});
    assert_eq!(server.webhook("transcription", &first).await.status, 201);
    let mut said = 0;
    for _ in 0..4 {
        let mut admin = sqlx::PgConnection::connect(&database.url).await.unwrap();
        sqlx::query("BEGIN").execute(&mut admin).await.unwrap();
        let lock = "SELECT 1 FROM calls WHERE call_sid = 'EL_order_1' FOR UPDATE";
        sqlx::query(lock).execute(&mut admin).await.unwrap();
        let mut answers = Vec::new();
        // The lock is released while turns wait for it, and while the writer waits between two tries.
        for at in 0..12 {
            said += 1;
            let name = ["call_sid", "conversation_id"][at % 2];
            let value = ["EL_order_1", "conv_order"][at % 2];
            let turn = json!({name: value, "speaker": "user", "message": said.to_string()});
            let server = Arc::clone(&server);
            answers.push(tokio::spawn(async move { server.webhook("transcription", &turn).await }));
            tokio::time::sleep(std::time::Duration::from_millis(45)).await;
            if at == 8 {
                sqlx::query("ROLLBACK").execute(&mut admin).await.unwrap();
            }
        }
        for answer in answers {
            assert_eq!(answer.await.unwrap().status, 201);
        }
    }
    let log = server.log("EL_order_1").await;
    assert_eq!(texts(&log), (0..=said).map(|at| at.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_delays_its_own_call_alone() {
    let database = Database::new(Engine::Postgres).await;
    let server = Arc::new(Server::start(&database).await);
    for call in ["EL_stuck_1", "EL_free_1"] {
        server.turn(call, "agent", "before").await;
    }
    let mut admin = sqlx::PgConnection::connect(&database.url).await.unwrap();
    sqlx::query("BEGIN").execute(&mut admin).await.unwrap();
    let lock = "SELECT 1 FROM calls WHERE call_sid = 'EL_stuck_1' FOR UPDATE";
    sqlx::query(lock).execute(&mut admin).await.unwrap();
    let stuck = {
        let server = Arc::clone(&server);
        // This provider posts the turn again until it is acknowledged.
        tokio::spawn(async move {
            let turn =
                json!({"call_sid": "EL_stuck_1", "speaker": "user", "message": "through at last", "turn_id": "t"});
            loop {
                let reply = server.webhook("transcription", &turn).await;
                if reply.status == 201 {
                    return reply;
                }
                assert_eq!(reply.status, 503, "{reply:?}");
            }
        })
    };
    // Each of these turns would wait for the lock if it shared a transaction with a turn of the locked call. Then
    // they would not all end within the timeout.
    let others = async {
        for at in 0..200 {
            assert_eq!(server.turn("EL_free_1", "user", &format!("meanwhile {at}")).await.status, 201);
            if at % 20 == 0 {
                assert_eq!(server.api(reqwest::Method::GET, "/readyz", None).await.status, 200);
            }
        }
    };
    tokio::time::timeout(callscope_tests::WAIT_TIMEOUT, others).await.expect("other calls go on");
    assert!(!stuck.is_finished(), "the row is locked");
    sqlx::query("ROLLBACK").execute(&mut admin).await.unwrap();
    assert_eq!(stuck.await.unwrap().json["seq"], 2);
    assert_eq!(server.log("EL_stuck_1").await.len(), 2);
}
