//! The built programs, as processes that a test may kill.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::server::{environment, http};
use crate::{Database, Engine, WAIT_TIMEOUT, until};

/// A `callscope-server` process, which is killed when this handle is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pub url: String,
    log: Arc<Mutex<Vec<String>>>,
}

/// Maximum number of log lines that are kept for assertions, the first ones.
const MAX_LOG_LINES: usize = 1_000;

/// Returns the path of one of the workspace's programs. Cargo puts programs into one folder, and tests into its
/// subfolder `deps`.
pub fn program(name: &str) -> PathBuf {
    let test_binary = std::env::current_exe().unwrap();
    let folder = test_binary.parent().unwrap();
    let folder = if folder.ends_with("deps") { folder.parent().unwrap() } else { folder };
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing; build it with `cargo build --workspace`", path.display());
    path
}

/// Returns a free port below the kernel's ephemeral ports, so that no outgoing connection takes the port while a server
/// restarts.
#[must_use]
pub fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (0..200).map(|_| fastrand::u16(20_000..32_000)).find(is_free).expect("some port is free")
}

/// Returns the resident memory of a process, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends a signal to a child.
pub fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        // The child may have ended already. Its owner finds that out by waiting for it.
        let _ = kill_process(pid, signal);
    }
}

impl Process {
    /// Starts a server on `database`; port 0 takes any free port.
    pub async fn start(database: &Database, port: u16) -> Self {
        Self::start_with(database, port, &[]).await
    }

    /// Starts a server with these environment variables in addition to those of all tests.
    pub async fn start_with(database: &Database, port: u16, variables: &[(&str, &str)]) -> Self {
        let port = port.to_string();
        let mut child = Command::new(program("callscope-server"))
            .env_clear()
            .envs(environment(&database.url, variables))
            .env("CALLSCOPE_PORT", &port)
            .current_dir(database.dir.path())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept_lines = Arc::clone(&log);
        let keep = move |line: &str| {
            let mut kept_lines = kept_lines.lock();
            if kept_lines.len() < MAX_LOG_LINES {
                kept_lines.push(line.to_owned());
            }
        };
        let url = timeout(WAIT_TIMEOUT, async {
            while let Some(line) = lines.next_line().await.unwrap() {
                keep(&line);
                if let Some((_, rest)) = line.split_once("url=") {
                    return rest.split(' ').next().unwrap().to_owned();
                }
            }
            panic!("the server ended before it listened");
        })
        .await
        .expect("the server listens in time");
        // The rest of the log has to be read, because a full pipe would block the server's log thread.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                keep(&line);
            }
        });
        Self { child, url, log }
    }

    pub fn port(&self) -> u16 {
        self.url.rsplit(':').next().unwrap().parse().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Returns the lines of the server's log so far, up to `MAX_LOG_LINES`.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    /// Returns the server's resident memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        resident_kib(self.child.id().unwrap())
    }

    pub fn signal(&self, signal_number: Signal) {
        signal(&self.child, signal_number);
    }

    /// Sends SIGTERM, waits until the server has ended, and returns whether its exit code was 0.
    pub async fn stop(mut self) -> bool {
        self.signal(Signal::TERM);
        timeout(WAIT_TIMEOUT, self.child.wait()).await.expect("the server ends in time").unwrap().success()
    }

    /// Kills the server with SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A `callscope-server` that a command of the test starts, on a new SQLite database. It is killed when this handle is
/// dropped.
#[derive(Debug)]
pub struct CustomServer {
    pub child: std::process::Child,
    /// `127.0.0.1:PORT`.
    pub address: String,
    pub url: String,
    _database: Database,
}

impl CustomServer {
    /// Runs `command` with the environment of all tests and `variables`, and waits until the server answers.
    pub async fn start(mut command: std::process::Command, variables: &[(&str, &str)]) -> Self {
        let database = Database::new(Engine::Sqlite).await;
        let port = free_port();
        command.env_clear().envs(environment(&database.url, variables)).env("CALLSCOPE_PORT", port.to_string());
        let child = command.current_dir(database.dir.path()).spawn().unwrap();
        let address = format!("127.0.0.1:{port}");
        let server = Self { child, url: format!("http://{address}"), address, _database: database };
        let http = http();
        until("the server answers", async || http.get(format!("{}/healthz", server.url)).send().await.is_ok()).await;
        server
    }
}

impl Drop for CustomServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
