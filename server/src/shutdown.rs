//! Going away in order.
//!
//! Readiness turns 503 and new work is refused; every client is told when to connect elsewhere, one after the other so that no
//! other server is overrun; until it leaves, or its time is up, it gets its events; then comes the close 1001. Requests under
//! way finish, what is queued is written, the process ends.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::live::Hub;
use crate::policy::DrainPolicy;

/// For the last close frames to be answered.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// For requests under way and queued writes, after the clients are gone; whatever still hangs then is cut.
const REST_TIMEOUT: Duration = Duration::from_secs(6);

/// SIGTERM, SIGINT and SIGHUP, caught from now on.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// None where it came in ignored, as under `nohup`: then it stays ignored.
    hang_up: Option<Signal>,
}

impl Signals {
    /// Catches them. Before this they end the process at once, so it comes first.
    ///
    /// # Errors
    /// The handlers could not be installed.
    pub fn catch() -> std::io::Result<Self> {
        let hang_up = if is_ignored(SignalKind::hangup()) { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, hang_up })
    }

    /// Waits for one, and says which.
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
    // No safe call reads a disposition without changing it; where the system does not list it, it is not known to be ignored.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}

/// Tells every client when to go, and waits until all are gone or their time is up.
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
        left => warn!(connections = before, left, "drained, but not whole"),
    }
}

/// Ends the process, should it not have ended by itself by then.
pub fn exit_after(drain: DrainPolicy) {
    tokio::spawn(async move {
        sleep(drain.deadline + CLOSE_TIMEOUT + REST_TIMEOUT).await;
        warn!("ending with work left over");
        crate::telemetry::writer::flush();
        std::process::exit(0);
    });
}
