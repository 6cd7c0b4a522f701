//! A server has few file descriptors, and unsigned senders occupy as many as they can. Webhooks, health checks and
//! followers still get theirs.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use callscope_tests::process::{CustomServer, program};
use callscope_tests::server::{SECRET, admin_token, forged_signature, http, post_webhook, unix_secs};
use callscope_tests::socket::{PATH, answer, send, status, upgrade_request};
use callscope_tests::{Subscriber, WAIT_TIMEOUT, until};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A server process with few file descriptors.
struct Server(CustomServer);

impl Server {
    /// Starts a server with a hard limit of `max_descriptors` and a soft limit of 64, which the server has to raise.
    async fn start_with(max_descriptors: u32, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -Sn 64 && ulimit -Hn {max_descriptors} && exec \"$0\"")]);
        command.arg(program("callscope-server")).stderr(Stdio::null());
        Self(CustomServer::start(command, variables).await)
    }

    async fn send(&self, bytes: &str) -> TcpStream {
        send(&self.0.address, bytes.as_bytes()).await
    }

    /// Sends a turn on a connection of its own, as a provider does.
    async fn turn(&self, n: i64) -> u16 {
        let body = json!({"call_sid": "EL_conn_1", "speaker": "user", "message": format!("turn {n}")}).to_string();
        let http = http();
        let reply = post_webhook(&http, &self.0.url, "transcription", &body);
        timeout(WAIT_TIMEOUT, reply).await.expect("the answer comes in time").expect("the server answers").status
    }

    async fn healthz(&self) -> u16 {
        let answer = timeout(WAIT_TIMEOUT, http().get(format!("{}/healthz", self.0.url)).send()).await;
        answer.expect("the answer comes in time").expect("the server answers").status().as_u16()
    }

    /// Requests an upgrade. Returns the status, whether the answer has a `Retry-After`, and the connection.
    async fn upgrade(&self, token: &str) -> (u16, bool, TcpStream) {
        let authorization = format!("Authorization: Bearer {token}\r\n");
        let request = upgrade_request(PATH, &self.0.address, &authorization);
        let mut stream = self.send(&request).await;
        let answer = answer(&mut stream).await.to_lowercase();
        (status(&answer), answer.contains("retry-after: "), stream)
    }
}

/// Waits until the server has closed the connection.
async fn wait_until_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset counts as a close too.
    let _ = timeout(WAIT_TIMEOUT, stream.read_to_end(&mut rest)).await.expect("the connection is closed in time");
}

/// The head of a request whose body never comes.
const FORM_WITHOUT_BODY: &str = "POST /webhooks/elevenlabs/transcription HTTP/1.1\r\nHost: x\r\n\
                    Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 50\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn idle_sockets_and_watchers_leave_room_for_webhooks_and_health() {
    let server = Server::start_with(256, &[("CALLSCOPE_MAX_CONNECTIONS_PER_TOKEN", "20")]).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.0.child.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["256", "256"]);
    let mut watcher = Subscriber::connect(&server.0.url, &admin_token("watcher")).await;
    watcher.ask(json!({"subscribe": "EL_conn_1", "wait": true}), "subscription_pending").await;
    let greedy = admin_token("greedy");
    let mut held = Vec::new();
    for n in 0..30 {
        let (status, has_retry_after, stream) = server.upgrade(&greedy).await;
        assert_eq!((status, has_retry_after), if n < 20 { (101, false) } else { (429, true) }, "watcher {n}");
        held.push(stream);
    }
    let mut turns = 0;
    let heads = [
        "G",
        "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        FORM_WITHOUT_BODY,
        "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        "",
    ];
    // The test keeps several times as many connections open as the server has descriptors.
    for n in 0..1_000_usize {
        held.push(server.send(heads[n % heads.len()]).await);
        if n % 100 == 99 {
            assert_eq!(server.healthz().await, 200);
            turns += 1;
            assert_eq!(server.turn(turns).await, 201);
        }
    }
    watcher.expect("subscription_confirmed").await;
    watcher.events(1, usize::try_from(turns).unwrap()).await;
    // The followers were never closed.
    watcher.ask(json!({"ping": 1}), "pong").await;
}

/// There are more senders than descriptors. Each sends a body that never ends, with a signature that could be valid for
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_trickle_give_way_while_descriptors_run_short() {
    let server = Server::start_with(256, &[]).await;
    let head = format!(
        "POST /webhooks/elevenlabs/transcription HTTP/1.1\r\nHost: x\r\nElevenLabs-Signature: {}\r\n\
         Content-Length: 4000\r\n\r\n{}",
        forged_signature(),
        " ".repeat(100)
    );
    let statuses = Arc::new(Mutex::new(BTreeMap::<String, u32>::new()));
    let mut unsigned_senders = JoinSet::new();
    for _ in 0..300 {
        let (address, head, statuses) = (server.0.address.clone(), head.clone(), Arc::clone(&statuses));
        unsigned_senders.spawn(async move {
            loop {
                let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
                let mut answer = vec![0; 512];
                let mut count = 0;
                if stream.write_all(head.as_bytes()).await.is_ok() {
                    loop {
                        match timeout(std::time::Duration::from_millis(100), stream.read(&mut answer)).await {
                            Ok(read) => break count = read.unwrap_or(0),
                            Err(_) if stream.write_all(b" ").await.is_err() => break,
                            Err(_) => {}
                        }
                    }
                }
                let status = String::from_utf8_lossy(&answer[..count]).split(' ').nth(1).unwrap_or("none").to_owned();
                *statuses.lock().unwrap().entry(status).or_default() += 1;
            }
        });
    }
    for n in 1..=4 {
        assert_eq!(server.healthz().await, 200);
        assert_eq!(server.turn(n).await, 201);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    unsigned_senders.shutdown().await;
    let statuses = statuses.lock().unwrap();
    assert!(statuses.get("503").is_some_and(|count| *count > 10), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_end_and_requests_in_progress_do_not() {
    let variables = [("CALLSCOPE_HEAD_DEADLINE", "1"), ("CALLSCOPE_IDLE_TIMEOUT", "2")];
    let server = Server::start_with(1_024, &variables).await;
    let mut watcher = Subscriber::connect(&server.0.url, &admin_token("watcher")).await;
    let body = json!({"call_sid": "EL_conn_2", "speaker": "user", "message": "in two parts"}).to_string();
    let signature = callscope_common::signature::sign(SECRET.as_bytes(), unix_secs(), body.as_bytes());
    let (first, rest) = body.split_at(body.len() / 2);
    let head = format!(
        "POST /webhooks/elevenlabs/transcription HTTP/1.1\r\nHost: x\r\nElevenLabs-Signature: {signature}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{first}",
        body.len()
    );
    let mut in_progress = server.send(&head).await;
    let mut idle = server.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut half_second_head = server.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(status(&answer(&mut half_second_head).await), 200);
    half_second_head.write_all(b"GET /healthz HTTP/1.1\r\nHo").await.unwrap();
    let mut half_head = server.send("GET /healthz HTTP/1.1\r\nHost: x\r\n").await;
    let mut missing_body = server.send(FORM_WITHOUT_BODY).await;
    // A head that arrives byte by byte has the same deadline as one that stops.
    let mut slow_head = server.send("GET /healthz HTTP/1.1\r\nX-Slow: ").await;
    timeout(WAIT_TIMEOUT, async {
        let mut interval = tokio::time::interval(std::time::Duration::from_millis(100));
        let mut byte = [0; 1];
        loop {
            tokio::select! {
                _ = interval.tick() => if slow_head.write_all(b"x").await.is_err() { break },
                read = slow_head.read(&mut byte) => if read.unwrap_or(0) == 0 { break },
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the connection is closed in time");
    for stream in [&mut half_head, &mut missing_body, &mut half_second_head, &mut idle] {
        wait_until_closed(stream).await;
    }
    in_progress.write_all(rest.as_bytes()).await.unwrap();
    assert_eq!(status(&answer(&mut in_progress).await), 201);
    watcher.ask(json!({"ping": 1}), "pong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn total_and_address_limits_differ_and_closing_frees_a_place() {
    for (key, expected) in [("CALLSCOPE_MAX_CONNECTIONS", 503), ("CALLSCOPE_MAX_CONNECTIONS_PER_ADDRESS", 429)] {
        let server = Server::start_with(1_024, &[(key, "3")]).await;
        let mut held = Vec::new();
        for n in 0..5 {
            let (status, has_retry_after, stream) = server.upgrade(&admin_token(&n.to_string())).await;
            assert_eq!((status, has_retry_after), if n < 3 { (101, false) } else { (expected, true) }, "{key}: {n}");
            held.push(stream);
        }
        assert_eq!(server.healthz().await, 200);
        held.clear();
        until("a place is free again", async || server.upgrade(&admin_token("later")).await.0 == 101).await;
    }
}
