//! When the process compares what it follows with the database.
//!
//! Every second, with jitter; five times a second while the notifications of other servers cannot be relied on, and at
//! once when that changes. [`live::reconcile`](crate::live::reconcile) says what is compared.

use std::time::Duration;

use tokio::select;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::Bus;
use super::bus::LinkHealth;
use crate::live::Hub;
use crate::live::reconcile::reconcile;
use crate::store::{Store, StoreError};

/// Timeout of one comparison.
const TIMEOUT: Duration = Duration::from_secs(10);
const INTERVAL_MS: u64 = 1_000;
/// The interval while the notifications of other servers cannot be relied on.
const UNRELIABLE_INTERVAL_MS: u64 = 200;
/// Pause before a comparison that a change prompts, so that many changes prompt one.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Compares until the task is aborted.
pub async fn run(store: Store, hub: Hub, bus: Option<Bus>) {
    let mut health = bus.map(|bus| bus.health());
    let mut is_failing = false;
    loop {
        pause(health.as_mut()).await;
        let outcome = timeout(TIMEOUT, reconcile(&store, &hub)).await;
        match outcome.unwrap_or(Err(StoreError::TimedOut)) {
            Ok(()) if is_failing => {
                is_failing = false;
                info!("reconciliation recovered");
            }
            Err(error) if !is_failing => {
                is_failing = true;
                warn!(%error, "reconciliation failed; retrying");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

async fn pause(health: Option<&mut watch::Receiver<LinkHealth>>) {
    let with_jitter = |ms: u64| Duration::from_millis(fastrand::u64(ms * 9 / 10..ms * 11 / 10));
    let Some(health) = health else { return sleep(with_jitter(INTERVAL_MS)).await };
    // Not marked as seen: a change during the last comparison is a reason for another one.
    let is_complete = health.borrow().is_complete;
    select! {
        () = sleep(with_jitter(if is_complete { INTERVAL_MS } else { UNRELIABLE_INTERVAL_MS })) => {}
        // Notifications that were published around the change may have been lost.
        Ok(()) = health.changed() => sleep(DEBOUNCE).await,
    }
}
