//! A draining server sends its clients elsewhere one after the other, and serves them until they leave.

use callscope_tests::subscriber::Received;
use callscope_tests::{Database, Engine, Process, Redis, Server, Subscriber, until};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

async fn followers(server: &Server, sid: &str, count: usize) -> Vec<Subscriber> {
    let mut followers = Vec::new();
    for _ in 0..count {
        followers.push(server.follower(sid, 1).await);
    }
    followers
}

/// Returns the `after_ms` of the `reconnect` message to each client, oldest connection first.
async fn reconnect_delays_ms(followers: &mut [Subscriber]) -> Vec<i64> {
    let mut delays_ms = Vec::new();
    for follower in followers {
        delays_ms.push(follower.expect("reconnect").await["after_ms"].as_i64().unwrap());
    }
    delays_ms
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_on_until_a_client_leaves_and_the_close_is_1001() {
    let database = Database::new(Engine::Postgres).await;
    let redis = Redis::start().await;
    let url = redis.url();
    let variables = [("CALLSCOPE_DRAIN_RATE", "1"), ("CALLSCOPE_REDIS_URL", &url)];
    let (here, there) =
        (Server::start_with(&database, &variables).await, Server::start_with(&database, &variables).await);
    there.turn("EL_drain_1", "agent", "first").await;
    let mut followers = followers(&here, "EL_drain_1", 3).await;
    let stopping = tokio::spawn(here.stop());
    assert_eq!(reconnect_delays_ms(&mut followers).await, [0, 1_250, 2_500]);
    there.turn("EL_drain_1", "agent", "spoken while the server goes away").await;
    let mut last = followers.pop().unwrap();
    last.events(2, 1).await;
    assert_eq!(last.next().await, Received::Closed(1001));
    let mut again = there.subscriber().await;
    again.ask(json!({"subscribe": "EL_drain_1", "after": 2}), "subscription_confirmed").await;
    again.expect_silence().await;
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_beyond_the_deadline_are_told_so_and_closed_at_it() {
    let variables = [("CALLSCOPE_DRAIN_RATE", "0.1"), ("CALLSCOPE_DRAIN_DEADLINE", "0.5")];
    let server = Server::on_sqlite(&variables).await;
    server.turn("EL_drain_2", "agent", "first").await;
    let mut followers = followers(&server, "EL_drain_2", 3).await;
    let stopping = tokio::spawn(server.stop());
    assert_eq!(reconnect_delays_ms(&mut followers).await, [0, 12_500, 25_000]);
    for mut follower in followers {
        assert_eq!(follower.next().await, Received::Closed(1001));
    }
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_server_refuses_new_work_and_says_so() {
    let server = Server::on_sqlite(&[("CALLSCOPE_DRAIN_RATE", "0.5")]).await;
    server.turn("EL_drain_3", "agent", "first").await;
    let mut followers = followers(&server, "EL_drain_3", 2).await;
    let (url, token) = (server.embedded.url.clone(), server.embedded.token.clone());
    let stopping = tokio::spawn(server.stop());
    reconnect_delays_ms(&mut followers).await;
    let http = callscope_tests::server::http();
    let ready = http.get(format!("{url}/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    let checks: Value = ready.json().await.unwrap();
    assert_eq!(checks["checks"]["draining"], "the server is shutting down", "{checks}");
    assert!(Subscriber::try_connect(&url, &token).await.is_err());
    let body = json!({"call_sid": "EL_drain_3", "speaker": "user", "message": "too late"}).to_string();
    let refused = callscope_tests::server::post_webhook(&http, &url, "transcription", &body).await.unwrap();
    assert_eq!(refused.status, 503);
    drop(followers);
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_overrun_while_draining_ends_in_order() {
    let database = Database::new(Engine::Sqlite).await;
    for round in 0..8 {
        let process = Process::start(&database, 0).await;
        let address = process.url.replacen("http://", "", 1);
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let address = address.clone();
            callers.spawn(async move {
                // Each request has a connection that stays open for the next ones, so some requests are always in
                // progress.
                let mut held = std::collections::VecDeque::new();
                while let Ok(mut stream) = TcpStream::connect(&address).await {
                    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n").await;
                    held.push_back(stream);
                    if held.len() > 8 {
                        held.pop_front();
                    }
                }
            });
        }
        until("the server is busy", async || TcpStream::connect(&address).await.is_ok()).await;
        assert!(process.stop().await, "ended with a failure in round {round}");
        while callers.join_next().await.is_some() {}
    }
}
