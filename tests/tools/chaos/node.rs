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

/// Time for a process to end, after SIGTERM or by itself. It is twice the longest drain.
const EXIT_TIMEOUT: Duration = Duration::from_secs(20);
/// Number of times, 5 ms apart, that a drain checks whether the server is serving. After them the drain is skipped.
const MAX_SERVING_CHECKS: usize = 4_000;
/// Time after a fault in which a server may still end by itself because of it.
const EXIT_EXCUSED_AFTER_FAULT: Duration = Duration::from_secs(15);
/// Lines of a server's log that are shown with a violation.
const SHOWN_LOG_LINES: usize = 8;

/// The program, settings and folder of every process of a server.
#[derive(Debug)]
pub struct LaunchSpec {
    pub program: PathBuf,
    /// All settings but the port.
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
    /// Number of the current process, counted from 1.
    incarnation: AtomicU64,
    /// Deliveries that the current process acknowledged.
    acknowledged: AtomicU64,
    /// Deliveries that all processes of this server acknowledged.
    total_acknowledged: AtomicU64,
    /// Whether the server may end by itself, because a service or the disk that it needs is broken.
    may_exit: AtomicBool,
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
            total_acknowledged: AtomicU64::new(0),
            may_exit: AtomicBool::new(false),
        }
    }

    pub async fn start(&self) {
        *self.child.lock().await = Some(self.spawn());
    }

    fn spawn(&self) -> Child {
        self.acknowledged.store(0, Ordering::SeqCst);
        self.incarnation.fetch_add(1, Ordering::SeqCst);
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
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

    fn log_path(&self) -> PathBuf {
        self.launch.dir.join(format!("server-{}.log", self.index))
    }

    /// Returns the number of the current process, for [`Self::record_acknowledged`].
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::SeqCst)
    }

    /// Counts an acknowledged delivery that was sent while `incarnation` was the current process.
    pub fn record_acknowledged(&self, incarnation: u64) {
        self.total_acknowledged.fetch_add(1, Ordering::SeqCst);
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
    pub fn total_acknowledged(&self) -> u64 {
        self.total_acknowledged.load(Ordering::SeqCst)
    }

    /// Kills the process with SIGKILL and starts another.
    pub async fn kill_and_restart(&self) {
        let mut child = self.child.lock().await;
        if let Some(mut child) = child.take() {
            let _ = child.kill().await;
        }
        *child = Some(self.spawn());
    }

    /// Ends the process with SIGTERM and starts another.
    ///
    /// SIGTERM is sent once the server is serving. A server that is just starting does not catch the signal yet and
    /// would end without a drain.
    pub async fn drain_and_restart(&self, violations: &Violations) {
        let mut current = self.child.lock().await;
        for _ in 0..MAX_SERVING_CHECKS {
            if self.is_serving() {
                break;
            }
            // The lock is released during the pause, so that other tasks can kill the server or restart it.
            drop(current);
            sleep(Duration::from_millis(5)).await;
            current = self.child.lock().await;
        }
        if !self.is_serving() {
            return;
        }
        if let Some(mut child) = current.take() {
            signal(&child, Signal::TERM);
            match timeout(EXIT_TIMEOUT, child.wait()).await {
                Ok(Ok(status)) if status.success() => {}
                Ok(status) => {
                    violations.add(Violation::Died, || {
                        format!("server {} drained with {status:?}\n{}", self.index, last_lines(&self.log_path()))
                    });
                }
                Err(_) => {
                    violations.add(Violation::Died, || {
                        format!(
                            "server {} did not end within {EXIT_TIMEOUT:?} of SIGTERM\n{}",
                            self.index,
                            last_lines(&self.log_path())
                        )
                    });
                    let _ = child.kill().await;
                }
            }
        }
        *current = Some(self.spawn());
    }

    /// Runs a second process of the server's program on the same database and returns its exit status; `None` if the
    /// server is not serving.
    pub async fn run_second_process(&self, arguments: &[&str]) -> Option<std::io::Result<std::process::ExitStatus>> {
        // The lock keeps the server from being killed. Otherwise the second process could become the database's owner.
        let current = self.child.lock().await;
        if current.is_none() || !self.is_serving() {
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
            Ok(mut child) => match timeout(EXIT_TIMEOUT, child.wait()).await {
                Ok(status) => status,
                Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
            },
            Err(error) => Err(error),
        })
    }

    /// Returns the process id if the server is serving.
    pub async fn serving_pid(&self) -> Option<u32> {
        let current = self.child.lock().await;
        current.as_ref().filter(|_| self.is_serving())?.id()
    }

    /// Sends SIGSTOP or SIGCONT.
    pub async fn signal(&self, sent: Signal) {
        if let Some(child) = &*self.child.lock().await {
            signal(child, sent);
        }
    }

    /// Sets whether the server may end by itself, because a service or the disk that it needs is broken.
    pub fn set_may_exit(&self, may_exit: bool) {
        self.may_exit.store(may_exit, Ordering::SeqCst);
    }

    /// Restarts the server each time it ends by itself, and reports a violation if it may not. Never returns.
    pub async fn supervise(&self, violations: &Violations) {
        // The start counts as a fault: soon after it, the server may end by itself.
        let mut last_excused_at = Instant::now();
        loop {
            sleep(Duration::from_millis(50)).await;
            if self.may_exit.load(Ordering::SeqCst) {
                last_excused_at = Instant::now();
            }
            // A drain holds the lock until it has restarted the server, so its exit is never seen here.
            let mut current = self.child.lock().await;
            let Some(child) = current.as_mut() else { continue };
            let Ok(Some(status)) = child.try_wait() else { continue };
            if last_excused_at.elapsed() > EXIT_EXCUSED_AFTER_FAULT {
                violations.add(Violation::Died, || {
                    format!("server {} ended by itself with {status}\n{}", self.index, last_lines(&self.log_path()))
                });
            }
            *current = Some(self.spawn());
        }
    }

    /// Kills the process with SIGKILL. Nothing restarts it.
    pub async fn kill(&self) {
        if let Some(mut child) = self.child.lock().await.take() {
            let _ = child.kill().await;
        }
    }
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..].join("\n")
}
