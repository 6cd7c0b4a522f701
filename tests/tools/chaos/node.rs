//! The server processes: they are started, broken, and started again on the same port.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use callscope_tests::process::{free_port, signal};

use crate::violations::{Violation, Violations};

/// A drain ends within ten seconds. After this time the server counts as hung.
const DRAIN: Duration = Duration::from_secs(20);

/// How often a drain looks whether the server is serving before it gives up.
const SETTLING: usize = 4_000;

/// What every server process is started with.
#[derive(Debug)]
pub struct LaunchSpec {
    pub program: PathBuf,
    /// Everything but the port.
    pub environment: Vec<(String, String)>,
    /// The working directory.
    pub dir: PathBuf,
}

#[derive(Debug)]
pub struct Node {
    pub index: usize,
    pub address: SocketAddr,
    launch: LaunchSpec,
    child: Mutex<Option<Child>>,
    /// Counts the processes that have been this server.
    incarnation: AtomicU64,
    /// Deliveries that this process acknowledged.
    acknowledged: AtomicU64,
    /// Deliveries that all processes of this server acknowledged.
    total: AtomicU64,
    /// Whether the server may end by itself, because something that it needs is broken.
    excused: AtomicBool,
}

impl Node {
    #[must_use]
    pub fn new(index: usize, launch: LaunchSpec) -> Self {
        Self {
            index,
            address: SocketAddr::from(([127, 0, 0, 1], free_port())),
            launch,
            child: Mutex::default(),
            incarnation: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            total: AtomicU64::new(0),
            excused: AtomicBool::new(false),
        }
    }

    pub async fn start(&self) {
        *self.child.lock().await = Some(self.spawn());
    }

    fn spawn(&self) -> Child {
        self.acknowledged.store(0, Ordering::SeqCst);
        self.incarnation.fetch_add(1, Ordering::SeqCst);
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        Command::new(&self.launch.program)
            .env_clear()
            .envs(self.launch.environment.iter().map(|(key, value)| (key, value)))
            .env("CALLSCOPE_PORT", self.address.port().to_string())
            .current_dir(&self.launch.dir)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the server starts")
    }

    fn log(&self) -> PathBuf {
        self.launch.dir.join(format!("server-{}.log", self.index))
    }

    /// Returns the number of the current process, for [`Self::acknowledge`].
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::SeqCst)
    }

    /// Notes that the server acknowledged a delivery that was sent to the process with this number.
    pub fn acknowledge(&self, incarnation: u64) {
        self.total.fetch_add(1, Ordering::SeqCst);
        if self.incarnation() == incarnation {
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Returns whether the current process has acknowledged a delivery.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.acknowledged.load(Ordering::SeqCst) > 0
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::SeqCst)
    }

    /// Kills the process with SIGKILL and starts another.
    pub async fn kill(&self) {
        let mut child = self.child.lock().await;
        if let Some(mut child) = child.take() {
            let _ = child.kill().await;
        }
        *child = Some(self.spawn());
    }

    /// Ends the process with SIGTERM and starts another once it is gone.
    ///
    /// This waits until the server is serving: before it catches signals, SIGTERM ends it like any other program.
    pub async fn drain(&self, violations: &Violations) {
        let mut held = self.child.lock().await;
        for _ in 0..SETTLING {
            if self.is_serving() {
                break;
            }
            // The lock is released in between, because others may want to kill the server or notice that it ended.
            drop(held);
            sleep(Duration::from_millis(5)).await;
            held = self.child.lock().await;
        }
        if !self.is_serving() {
            return;
        }
        if let Some(mut child) = held.take() {
            signal(&child, Signal::TERM);
            match timeout(DRAIN, child.wait()).await {
                Ok(Ok(status)) if status.success() => {}
                Ok(status) => {
                    violations.add(Violation::Died, || {
                        format!("server {} drained with {status:?}\n{}", self.index, tail(&self.log()))
                    });
                }
                Err(_) => {
                    violations.add(Violation::Died, || {
                        format!("server {} did not end within {DRAIN:?} of SIGTERM\n{}", self.index, tail(&self.log()))
                    });
                    let _ = child.kill().await;
                }
            }
        }
        *held = Some(self.spawn());
    }

    /// Runs a second process of the server's program on the same database and returns how it ended; `None` if the
    /// server is not serving.
    pub async fn beside(&self, arguments: &[&str]) -> Option<std::io::Result<std::process::ExitStatus>> {
        // The lock keeps the server from being killed: otherwise the second process would be the first.
        let held = self.child.lock().await;
        if held.is_none() || !self.is_serving() {
            return None;
        }
        let started = Command::new(&self.launch.program)
            .args(arguments)
            .env_clear()
            .envs(self.launch.environment.iter().map(|(key, value)| (key, value)))
            .env("CALLSCOPE_PORT", "0")
            .current_dir(&self.launch.dir)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn();
        Some(match started {
            Ok(mut child) => match timeout(DRAIN, child.wait()).await {
                Ok(ended) => ended,
                Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
            },
            Err(error) => Err(error),
        })
    }

    /// Returns the id of the process if it is serving.
    pub async fn pid(&self) -> Option<u32> {
        let held = self.child.lock().await;
        held.as_ref().filter(|_| self.is_serving())?.id()
    }

    /// Sends SIGSTOP or SIGCONT.
    pub async fn signal(&self, which: Signal) {
        if let Some(child) = &*self.child.lock().await {
            signal(child, which);
        }
    }

    /// While a node is excused it may end by itself, because something that it needs is broken.
    pub fn excuse(&self, excused: bool) {
        self.excused.store(excused, Ordering::SeqCst);
    }

    /// Starts the server again whenever it ends by itself, which is a violation unless the node is excused. Runs until
    /// it is dropped.
    pub async fn supervise(&self, violations: &Violations) {
        let mut last_excused = Instant::now();
        loop {
            sleep(Duration::from_millis(50)).await;
            if self.excused.load(Ordering::SeqCst) {
                last_excused = Instant::now();
            }
            // A drain holds the lock all the time, so a process that ends then was told to.
            let mut held = self.child.lock().await;
            let Some(child) = held.as_mut() else { continue };
            let Ok(Some(status)) = child.try_wait() else { continue };
            if last_excused.elapsed() > Duration::from_secs(15) {
                violations.add(Violation::Died, || {
                    format!("server {} ended by itself with {status}\n{}", self.index, tail(&self.log()))
                });
            }
            *held = Some(self.spawn());
        }
    }

    /// Kills the process and starts no other.
    pub async fn end(&self) {
        if let Some(mut child) = self.child.lock().await.take() {
            let _ = child.kill().await;
        }
    }
}

/// Returns the last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
