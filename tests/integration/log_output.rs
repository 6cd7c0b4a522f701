//! A log that is not read, or is read slowly, delays no request and no shutdown.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use callscope_tests::process::{CustomServer, program};
use callscope_tests::server::{admin_token, http, post_webhook};
use callscope_tests::{Subscriber, WAIT_TIMEOUT, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A server whose stderr the test chooses.
struct Server(CustomServer);

impl Server {
    async fn start(stderr: impl Into<Stdio>, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program("callscope-server"));
        command.stderr(stderr);
        Self(CustomServer::start(command, variables).await)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.child.id().cast_signed()).unwrap(), signal).unwrap();
    }

    /// Asserts that a thousand requests are answered, that a follower receives its event, and that SIGTERM then ends
    /// the server.
    async fn assert_serves_and_stops(mut self) {
        let mut watcher = Subscriber::connect(&self.0.url, &admin_token("t")).await;
        watcher.ask(json!({"subscribe": "EL_log_1", "wait": true}), "subscription_pending").await;
        let http = http();
        for n in 0..1_000 {
            let url = format!("{}/webhooks/elevenlabs/transcription", self.0.url);
            let request = http.post(url).header("ElevenLabs-Signature", "t=1,v0=00").body(format!("{{\"n\":{n}}}"));
            let answer = request.timeout(WAIT_TIMEOUT).send().await.expect("each request is answered");
            assert_eq!(answer.status(), 401);
        }
        let turn = json!({"call_sid": "EL_log_1", "speaker": "user", "message": "hello"}).to_string();
        let reply = post_webhook(&http, &self.0.url, "transcription", &turn).await.unwrap();
        assert_eq!(reply.status, 201);
        watcher.expect("subscription_confirmed").await;
        watcher.events(1, 1).await;
        drop(watcher);
        self.signal(Signal::TERM);
        assert!(self.wait_for_exit().await.success());
    }

    async fn wait_for_exit(&mut self) -> ExitStatus {
        let mut ended = None;
        until("the server ends", async || {
            ended = self.0.child.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        ended.unwrap()
    }
}

/// Reads everything that the server writes, in a thread.
fn spawn_reader(mut pipe: std::io::PipeReader) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).unwrap();
        String::from_utf8(text).expect("the log is UTF-8")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_reader_that_went_away_delays_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    let server = Server::start(writer, &[]).await;
    drop(reader);
    server.assert_serves_and_stops().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_log_reader_delays_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    Server::start(writer, &[]).await.assert_serves_and_stops().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_reader_that_stalls_delays_nothing() {
    for format in ["text", "json"] {
        let (reader, writer) = std::io::pipe().unwrap();
        // At this level each request writes a line, so the pipe is full long before the last one.
        let variables = [("CALLSCOPE_LOG", "trace"), ("CALLSCOPE_LOG_FORMAT", format)];
        Server::start(writer, &variables).await.assert_serves_and_stops().await;
        drop(reader);
    }
}

/// The pipe is full before the server writes its first line.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_reader_that_stalled_before_the_start_delays_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while rustix::io::write(&writer, &[b'x'; 4_096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    Server::start(writer, &[]).await.assert_serves_and_stops().await;
    drop(reader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_device_delays_nothing() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    Server::start(full, &[]).await.assert_serves_and_stops().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_log_terminal_delays_nothing() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    let terminal_side: OwnedFd = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
    let server = Server::start(terminal_side, &[]).await;
    drop(terminal);
    server.assert_serves_and_stops().await;
}

/// Once the pipe is read again, one line says how many lines are missing, and later lines are there.
#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_dropped_lines_is_logged_once_the_log_is_read() {
    for format in ["text", "json"] {
        let (pipe, writer) = std::io::pipe().unwrap();
        let mut server = Server::start(writer, &[("CALLSCOPE_LOG", "debug"), ("CALLSCOPE_LOG_FORMAT", format)]).await;
        let http = http();
        for _ in 0..6_000 {
            let answer = http.get(format!("{}/healthz", server.0.url)).send().await.expect("the server answers");
            assert!(answer.status().is_success());
        }
        let text = spawn_reader(pipe);
        // Lines that are read make room, and then the number of missing lines is logged.
        for _ in 0..50 {
            http.get(format!("{}/healthz", server.0.url)).send().await.expect("the server answers");
            tokio::task::yield_now().await;
        }
        server.signal(Signal::TERM);
        assert!(server.wait_for_exit().await.success());
        let text = text.join().unwrap();
        assert!(text.contains("log lines were dropped"), "{}", text.len());
        assert!(text.lines().last().unwrap().contains("stopped"), "{}", text.lines().last().unwrap());
        assert!(format != "json" || text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_short_and_refusals_are_counted_beyond_fifty_a_second() {
    for format in ["text", "json"] {
        let (pipe, writer) = std::io::pipe().unwrap();
        let text = spawn_reader(pipe);
        let mut server = Server::start(writer, &[("CALLSCOPE_LOG_FORMAT", format)]).await;
        let http = http();
        let path = format!("/{}", "ü\u{1b}".repeat(1_500));
        for _ in 0..500 {
            let answer = http.get(format!("{}{path}", server.0.url)).send().await.expect("the server answers");
            assert_eq!(answer.status(), 404);
        }
        server.signal(Signal::TERM);
        assert!(server.wait_for_exit().await.success());
        let text = text.join().unwrap();
        assert!(text.lines().all(|line| line.len() < 2_048), "{}", text.lines().map(str::len).max().unwrap());
        let refused = text.lines().filter(|line| line.contains("404") && line.contains("micros")).count();
        assert!((1..500).contains(&refused), "{refused} lines for 500 refusals");
        assert!(text.contains("not logged one by one"), "{refused} lines for 500 refusals");
        assert!(!text.contains('\u{1b}'));
        assert!(format != "json" || text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sighup_drains_unless_it_was_ignored_at_the_start() {
    let (pipe, writer) = std::io::pipe().unwrap();
    let text = spawn_reader(pipe);
    let mut server = Server::start(writer, &[]).await;
    let mut watcher = Subscriber::connect(&server.0.url, &admin_token("t")).await;
    watcher.ask(json!({"ping": 1}), "pong").await;
    server.signal(Signal::HUP);
    watcher.expect("reconnect").await;
    drop(watcher);
    assert!(server.wait_for_exit().await.success());
    assert!(text.join().unwrap().contains("SIGHUP"));

    let mut ignoring_sighup = Command::new("sh");
    ignoring_sighup.args(["-c", "trap '' HUP; exec \"$0\""]).arg(program("callscope-server")).stderr(Stdio::null());
    let mut server = Server(CustomServer::start(ignoring_sighup, &[]).await);
    server.signal(Signal::HUP);
    let answer = http().get(format!("{}/healthz", server.0.url)).timeout(Duration::from_secs(10)).send().await;
    assert!(answer.is_ok());
    server.signal(Signal::TERM);
    server.wait_for_exit().await;
}
