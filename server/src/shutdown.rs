//! Going away in order, within ten seconds of the signal.
//!
//! Readiness turns 503 and new work is refused; every client is told when to reconnect, gets what it is owed and a close
//! 1001; requests under way finish; what is queued is written; then the process ends.

use std::time::Duration;

use rocket::tokio::signal::unix::{SignalKind, signal};
use rocket::tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::live::Hub;

/// For the clients to be told and closed.
const CONNECTIONS: Duration = Duration::from_secs(6);
/// For everything; whatever still hangs then is cut.
const TOTAL: Duration = Duration::from_millis(9_500);

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// The handlers could not be installed.
pub async fn signalled() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(rocket::tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Tells every client to go, and waits until all are gone or their time is up.
pub async fn drain(hub: &Hub) {
    let began = Instant::now();
    let before = hub.sizes().0;
    hub.drain();
    while hub.sizes().0 > 0 && began.elapsed() < CONNECTIONS {
        sleep(Duration::from_millis(20)).await;
    }
    let left = hub.sizes().0;
    match left {
        0 => info!(connections = before, "drained"),
        left => warn!(connections = before, left, "drained, but not whole"),
    }
}

/// Ends the process, should it not have ended by itself by then.
pub fn end_at_last() {
    rocket::tokio::spawn(async {
        sleep(TOTAL).await;
        warn!("ending with work left over");
        std::process::exit(0);
    });
}
