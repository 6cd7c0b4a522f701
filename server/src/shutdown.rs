//! Shuts the server down in order.
//!
//! Readiness turns 503, and new work is refused. The clients are told one after the other when to connect to another
//! server, so that no server is overrun. A client gets its events until it leaves. When the deadline passes, the
//! remaining clients are closed with 1001. Then requests in progress finish, queued operations are written, and the
//! process ends.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::live::Hub;
use crate::policy::DrainPolicy;

/// Time for clients to answer the last close frames.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for requests in progress and queued operations after the clients are gone. What is unfinished then is aborted.
const FINISH_TIMEOUT: Duration = Duration::from_secs(6);

/// Handlers of SIGTERM, SIGINT and SIGHUP.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` if the process was started with this signal ignored, as under `nohup`; then it stays ignored.
    hang_up: Option<Signal>,
}

impl Signals {
    /// Installs the handlers. Before, these signals end the process at once.
    ///
    /// # Errors
    /// Returns an error if the handlers cannot be installed.
    pub fn catch() -> std::io::Result<Self> {
        let hang_up = if is_ignored(SignalKind::hangup()) { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, hang_up })
    }

    /// Waits for a signal and returns its name.
    pub async fn wait(&mut self) -> &'static str {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = hang_up => "SIGHUP",
        }
    }
}

/// Whether the process was started with this signal ignored.
fn is_ignored(kind: SignalKind) -> bool {
    // No safe function reads how a signal is handled without changing that. If the system does not list ignored
    // signals, this one counts as not ignored.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}

/// Tells each client when to leave, and waits until all have left or are closed after the deadline.
pub async fn drain(hub: &Hub, drain: DrainPolicy) {
    let began = Instant::now();
    let before = hub.sizes().connections;
    hub.drain(drain);
    while hub.sizes().connections > 0 && began.elapsed() < drain.deadline + CLOSE_TIMEOUT {
        sleep(Duration::from_millis(20)).await;
    }
    let left = hub.sizes().connections;
    match left {
        0 => info!(connections = before, "drained"),
        left => warn!(connections = before, left, "drain timed out; connections remain"),
    }
}

/// Ends the process after the deadlines of the drain and of the steps that follow, if it has not ended by itself.
pub fn exit_after(drain: DrainPolicy) {
    tokio::spawn(async move {
        sleep(drain.deadline + CLOSE_TIMEOUT + FINISH_TIMEOUT).await;
        warn!("shutdown timed out; ending with unfinished work");
        crate::telemetry::writer::flush();
        std::process::exit(0);
    });
}
