//! `callscope listen --forward-to` between a server and an HTTP server, each of which the tests kill.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use callscope_common::signature::{HEADER, SignatureHeader};
use callscope_tests::process::{free_port, program};
use callscope_tests::server::{SECRET, admin_token, http, post_signed, post_webhook, unix_secs};
use callscope_tests::{Database, Engine, Process, until};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

/// A request as the target received it.
#[derive(Debug, Clone)]
struct ReceivedRequest {
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl ReceivedRequest {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(&name.to_lowercase()).map(String::as_str)
    }

    fn id(&self) -> &str {
        self.header("Callscope-Delivery-Id").unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A value of [`Target::status`]: the target reads the request and closes the connection without an answer.
const NO_ANSWER: u16 = 0;

type RequestLog = Arc<Mutex<Vec<ReceivedRequest>>>;

/// The HTTP server that deliveries are forwarded to. It records every request and answers with `status`.
struct Target {
    log: RequestLog,
    status: Arc<AtomicU16>,
    port: u16,
    serving: tokio::task::JoinHandle<()>,
}

impl Target {
    async fn start(port: u16, log: RequestLog) -> Self {
        let mut bound = None;
        until("the target's port is free", async || {
            bound = TcpListener::bind(("127.0.0.1", port)).await.ok();
            bound.is_some()
        })
        .await;
        let listener = bound.unwrap();
        let port = listener.local_addr().unwrap().port();
        let status = Arc::new(AtomicU16::new(200));
        let (arrived, answer) = (Arc::clone(&log), Arc::clone(&status));
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&arrived), Arc::clone(&answer)));
            }
        });
        Self { log, status, port, serving }
    }

    /// Ends the listening socket and all connections at once, answered or not.
    async fn kill(self) -> (u16, RequestLog) {
        self.serving.abort();
        let _ = self.serving.await;
        (self.port, self.log)
    }

    fn ids(&self) -> Vec<String> {
        self.log.lock().iter().map(|arrived| arrived.id().to_owned()).collect()
    }
}

async fn serve(stream: TcpStream, log: RequestLog, status: Arc<AtomicU16>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap().to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        log.lock().push(ReceivedRequest { path, headers, body });
        let status = status.load(Ordering::SeqCst);
        if status == NO_ANSWER {
            return;
        }
        let answer = format!("HTTP/1.1 {status} Told\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A `callscope listen` process, which is killed when this handle is dropped.
struct Listener {
    child: Child,
    stderr_lines: Arc<Mutex<Vec<String>>>,
    outcomes: Arc<Mutex<Vec<Value>>>,
}

impl Listener {
    fn start(server: &str, port: u16, cursor_file: &Path, flags: &[&str]) -> Self {
        let mut child = Command::new(program("callscope"))
            .env_clear()
            .envs([("CALLSCOPE_SERVER", server), ("CALLSCOPE_TOKEN", &admin_token("listener"))])
            .args(["listen", "-o", "ndjson", "--forward-to"])
            .arg(format!("http://127.0.0.1:{port}/hooks/{{route}}"))
            .arg("--cursor-file")
            .arg(cursor_file)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (stderr_lines, outcomes) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (parsed_outcomes, read_lines) = (Arc::clone(&outcomes), Arc::clone(&stderr_lines));
        tokio::spawn(async move {
            let mut out = BufReader::new(out).lines();
            while let Ok(Some(line)) = out.next_line().await {
                parsed_outcomes.lock().push(serde_json::from_str(&line).unwrap());
            }
        });
        tokio::spawn(async move {
            let mut err = BufReader::new(err).lines();
            while let Ok(Some(line)) = err.next_line().await {
                read_lines.lock().push(line);
            }
        });
        Self { child, stderr_lines, outcomes }
    }

    /// Waits until the client has printed `text` to stderr.
    async fn until_says(&self, text: &str) {
        until(text, async || self.stderr_lines.lock().iter().any(|line| line.contains(text))).await;
    }

    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A server, a target, and a client that forwards to it.
struct Scene {
    http: reqwest::Client,
    server: Process,
    target: Target,
    listener: Listener,
    _database: Database,
}

impl Scene {
    async fn start(flags: &[&str]) -> Self {
        let database = Database::new(Engine::Sqlite).await;
        let server = Process::start(&database, 0).await;
        let target = Target::start(0, RequestLog::default()).await;
        let listener = Listener::start(&server.url, target.port, &database.dir.path().join("place.json"), flags);
        listener.until_says("forwarding deliveries").await;
        Self { http: http(), server, target, listener, _database: database }
    }

    async fn post_turn(&self, call: usize, number: usize) {
        post_turn(&self.http, &self.server.url, call, number).await;
    }

    /// Waits until the client has reported `count` outcomes, and returns them.
    async fn outcomes(&self, count: usize) -> Vec<Value> {
        until("the client reports", async || self.listener.outcomes.lock().len() == count).await;
        self.listener.outcomes.lock().clone()
    }
}

/// Posts a turn of a call again until it is acknowledged, as providers do.
async fn post_turn(http: &reqwest::Client, url: &str, call: usize, number: usize) {
    let turn_id = format!("{call}-{number}");
    let body =
        json!({"call_sid": format!("EL_lane_{call}"), "speaker": "user", "message": "hello", "turn_id": turn_id});
    let body = body.to_string();
    until("the turn is acknowledged", async || {
        post_webhook(http, url, "transcription", &body).await.is_ok_and(|reply| reply.status == 201)
    })
    .await;
}

/// Returns every delivery that the server at `url` has stored, oldest first.
async fn stored_deliveries(http: &reqwest::Client, url: &str) -> Vec<Value> {
    let request = http.get(format!("{url}/api/v1/admin/deliveries?limit=500")).bearer_auth(admin_token("t"));
    let listed: Value = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    let mut deliveries = listed["deliveries"].as_array().unwrap().clone();
    deliveries.reverse();
    deliveries
}

#[tokio::test(flavor = "multi_thread")]
async fn each_delivery_arrives_in_order_whichever_program_is_killed() {
    for engine in Engine::ALL {
        let database = Database::new(engine).await;
        let cursor_file = database.dir.path().join("place.json");
        let http = http();
        let server_port = free_port();
        let mut server = Process::start(&database, server_port).await;
        let url = server.url.clone();
        let mut target = Target::start(0, RequestLog::default()).await;
        let mut listener = Listener::start(&url, target.port, &cursor_file, &[]);
        listener.until_says("forwarding deliveries").await;
        let post_turns = async |from: usize, to: usize| {
            for number in from..to {
                futures_util::future::join_all((0..3).map(|call| post_turn(&http, &url, call, number))).await;
            }
        };
        post_turns(0, 10).await;
        until("the first deliveries arrive", async || target.ids().len() >= 30).await;

        // The target is killed while deliveries are forwarded, and started again.
        let (port, log) = target.kill().await;
        post_turns(10, 15).await;
        listener.until_says("not forwarded").await;
        target = Target::start(port, log).await;
        until("forwarding goes on", async || target.ids().len() > 32).await;

        // The server is killed while turns are posted, and started again.
        let speaking = post_turns(15, 25);
        let killing = async {
            until("some more deliveries arrive", async || target.ids().len() > 50).await;
            server.kill().await;
            Process::start(&database, server_port).await
        };
        ((), server) = tokio::join!(speaking, killing);
        listener.until_says("connected again").await;

        // The client is killed, and another one resumes after the stored cursor.
        let speaking = post_turns(25, 35);
        let killing = async {
            until("some more deliveries arrive", async || target.ids().len() > 80).await;
            listener.kill().await;
        };
        tokio::join!(speaking, killing);
        listener = Listener::start(&url, target.port, &cursor_file, &[]);

        let deliveries = stored_deliveries(&http, &url).await;
        // Three calls have 35 turns each.
        assert!(deliveries.len() >= 105, "{engine:?}");
        let missing = async || {
            let ids = target.ids();
            deliveries.iter().filter(|d| !ids.iter().any(|id| *id == d["delivery_id"])).count()
        };
        until("every delivery has arrived", async || missing().await == 0).await;
        check_arrivals(engine, &target.log.lock());
        drop(listener);
        server.kill().await;
    }
}

/// First arrivals are in order for each call, later ones are marked, and bytes and signature are the sender's.
fn check_arrivals(engine: Engine, log: &[ReceivedRequest]) {
    let mut last: HashMap<String, usize> = HashMap::new();
    let mut seen: Vec<&str> = Vec::new();
    for arrived in log {
        assert_eq!(arrived.path, "/hooks/transcription");
        let signature = SignatureHeader::parse(arrived.header(HEADER).unwrap()).unwrap();
        assert_eq!(signature.verify(&[SECRET], &arrived.body, signature.unix_secs(), 0), Ok(()));
        let mark = arrived.header("Callscope-Duplicate").unwrap_or_default();
        if seen.contains(&arrived.id()) {
            assert!(mark.contains("sent-again"), "{engine:?}: a second arrival without a mark: {arrived:?}");
            continue;
        }
        seen.push(arrived.id());
        if arrived.header("Callscope-Verdict") == Some("duplicate") {
            // This is the sender's own repeat of a delivery that was committed before its answer was lost.
            assert!(mark.contains("received-again"), "{arrived:?}");
            continue;
        }
        let (call, number) = (arrived.json()["call_sid"].to_string(), arrived.json()["turn_id"].to_string());
        let number: usize = number.trim_matches('"').split('-').nth(1).unwrap().parse().unwrap();
        if let Some(before) = last.insert(call.clone(), number) {
            assert_eq!(number, before + 1, "{engine:?}: {call} is out of order");
        }
    }
    assert_eq!(last.values().collect::<Vec<_>>(), [&34; 3], "{engine:?}: every turn of every call");
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_deliveries_are_forwarded_and_signed_again() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&secret, "own\n").unwrap();
    let path = secret.path().to_str().unwrap();
    let flags = ["--type", "turn", "--type", "unheard_of", "--call", "EL_lane_1", "--sign-with-file", path];
    let scene = Scene::start(&flags).await;
    scene.post_turn(0, 0).await;
    scene.post_turn(1, 0).await;
    // The sender repeats the delivery because its answer was lost.
    scene.post_turn(1, 0).await;
    let other = json!({"type": "unheard_of", "data": {"conversation_id": "EL_lane_1"}}).to_string();
    let (url, headers) = (&scene.server.url, [("Authorization", "Basic c2VjcmV0")]);
    post_signed(&scene.http, url, "post-call", other.as_bytes(), unix_secs(), &headers).await.unwrap();
    until("three arrive", async || scene.target.ids().len() == 3).await;
    let log = scene.target.log.lock().clone();
    for arrived in &log {
        let signature = SignatureHeader::parse(arrived.header(HEADER).unwrap()).unwrap();
        assert_eq!(signature.verify(&["own"], &arrived.body, unix_secs(), 60), Ok(()));
        assert_eq!(arrived.header("Authorization"), None);
    }
    let marks: Vec<_> = log.iter().map(|arrived| arrived.header("Callscope-Duplicate")).collect();
    assert_eq!(marks, [None, Some("received-again"), None]);
    assert_eq!((log[2].path.as_str(), &log[2].body[..]), ("/hooks/post-call", other.as_bytes()));
    assert_eq!(log[0].json()["call_sid"], "EL_lane_1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_is_retried_and_finally_given_up() {
    let scene = Scene::start(&["--attempts", "3"]).await;
    let target = &scene.target;
    target.status.store(503, Ordering::SeqCst);
    scene.post_turn(0, 0).await;
    scene.outcomes(1).await;
    // The client does not retry after a 404.
    target.status.store(404, Ordering::SeqCst);
    scene.post_turn(0, 1).await;
    let lines = scene.outcomes(2).await;
    assert_eq!((&lines[0]["status"], &lines[0]["attempt"], &lines[0]["ok"]), (&json!(503), &json!(3), &json!(false)));
    assert_eq!((&lines[1]["status"], &lines[1]["attempt"], &lines[1]["ok"]), (&json!(404), &json!(1), &json!(false)));
    let attempts: Vec<_> =
        target.log.lock().iter().map(|a| a.header("Callscope-Attempt").unwrap().to_owned()).collect();
    assert_eq!(attempts, ["1", "2", "3", "1"]);
}

/// The target may have processed the request before it closed, so the next attempt is marked.
#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_delivery_is_marked_when_it_is_sent_again() {
    let scene = Scene::start(&[]).await;
    let target = &scene.target;
    target.status.store(NO_ANSWER, Ordering::SeqCst);
    scene.post_turn(0, 0).await;
    until("it is sent again", async || target.ids().len() >= 2).await;
    target.status.store(200, Ordering::SeqCst);
    let outcomes = scene.outcomes(1).await;
    let log = target.log.lock().clone();
    assert_eq!(log[0].header("Callscope-Duplicate"), None);
    assert!(log[1..].iter().all(|arrived| arrived.header("Callscope-Duplicate") == Some("sent-again")), "{log:?}");
    assert_eq!(outcomes[0]["duplicate"], "sent-again");
}
