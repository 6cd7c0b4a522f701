//! The server processes: started, broken, started again on the same port.

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

/// A drain ends within ten seconds; beyond this the server is taken for hung.
const DRAIN: Duration = Duration::from_secs(20);

/// Looks at whether a server is serving yet, before one gives up draining it.
const SETTLING: usize = 4_000;

/// What every server process is started with.
#[derive(Debug)]
pub struct LaunchSpec {
    /// The program.
    pub program: PathBuf,
    /// Its environment but the port.
    pub environment: Vec<(String, String)>,
    /// Its working directory.
    pub dir: PathBuf,
}

/// One server.
#[derive(Debug)]
pub struct Node {
    /// Its number.
    pub index: usize,
    /// Where it listens.
    pub address: SocketAddr,
    launch: LaunchSpec,
    child: Mutex<Option<Child>>,
    /// Counts its lives.
    life: AtomicU64,
    /// Deliveries acknowledged in this life.
    acknowledged: AtomicU64,
    /// Deliveries acknowledged in all lives.
    total: AtomicU64,
    /// Whether it may fail to start, since what it stands on is broken.
    excused: AtomicBool,
}

impl Node {
    /// Not started yet.
    #[must_use]
    pub fn new(index: usize, launch: LaunchSpec) -> Self {
        Self {
            index,
            address: SocketAddr::from(([127, 0, 0, 1], free_port())),
            launch,
            child: Mutex::default(),
            life: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            total: AtomicU64::new(0),
            excused: AtomicBool::new(false),
        }
    }

    /// Starts it.
    pub async fn start(&self) {
        *self.child.lock().await = Some(self.spawn());
    }

    fn spawn(&self) -> Child {
        self.acknowledged.store(0, Ordering::SeqCst);
        self.life.fetch_add(1, Ordering::SeqCst);
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

    /// Which life this is, for [`Self::served`].
    #[must_use]
    pub fn life(&self) -> u64 {
        self.life.load(Ordering::SeqCst)
    }

    /// It acknowledged a delivery that was sent to it in that life.
    pub fn served(&self, life: u64) {
        self.total.fetch_add(1, Ordering::SeqCst);
        if self.life() == life {
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether it got something done since it was started.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.acknowledged.load(Ordering::SeqCst) > 0
    }

    /// Deliveries it acknowledged so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::SeqCst)
    }

    /// SIGKILL, and a new life.
    pub async fn kill(&self) {
        let mut child = self.child.lock().await;
        if let Some(mut child) = child.take() {
            let _ = child.kill().await;
        }
        *child = Some(self.spawn());
    }

    /// SIGTERM, and a new life once it is gone.
    ///
    /// Only once it is serving: until it has got so far as to catch signals, SIGTERM ends it like any program.
    pub async fn drain(&self, violations: &Violations) {
        let mut held = self.child.lock().await;
        for _ in 0..SETTLING {
            if self.is_serving() {
                break;
            }
            // Let go meanwhile, since others may want to kill it, or find that it ended.
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

    /// Runs the server's program once more on the same database while the server serves, and says how it ended. `None` where the server
    /// is not serving just now.
    pub async fn beside(&self, arguments: &[&str]) -> Option<std::io::Result<std::process::ExitStatus>> {
        // Held meanwhile, so that the server is not killed: then the second one would be the first.
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

    /// The process that serves, where one has got something done.
    pub async fn pid(&self) -> Option<u32> {
        let held = self.child.lock().await;
        held.as_ref().filter(|_| self.is_serving())?.id()
    }

    /// SIGSTOP or SIGCONT.
    pub async fn signal(&self, which: Signal) {
        if let Some(child) = &*self.child.lock().await {
            signal(child, which);
        }
    }

    /// Until this is taken back, it may end by itself: what it stands on is broken.
    pub fn excuse(&self, excused: bool) {
        self.excused.store(excused, Ordering::SeqCst);
    }

    /// Starts it again whenever it ends by itself, which is violations unless it was excused. Runs until it is dropped.
    pub async fn supervise(&self, violations: &Violations) {
        let mut last_excused = Instant::now();
        loop {
            sleep(Duration::from_millis(50)).await;
            if self.excused.load(Ordering::SeqCst) {
                last_excused = Instant::now();
            }
            // Held for the whole of a drain: what ends meanwhile was message to.
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

    /// SIGKILL, for good.
    pub async fn end(&self) {
        if let Some(mut child) = self.child.lock().await.take() {
            let _ = child.kill().await;
        }
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
