//! Schedules reconciliation: every second, with jitter; five times a second while the notifications of other servers
//! are not complete; and at once when that changes.
//!
//! [`live::reconcile`](crate::live::reconcile) does the comparison.

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

/// Timeout of one reconciliation.
const TIMEOUT: Duration = Duration::from_secs(10);
const INTERVAL_MS: u64 = 1_000;
/// The interval while the notifications of other servers are not complete.
const INCOMPLETE_INTERVAL_MS: u64 = 200;
/// Delay of the reconciliation after a change of the link's health, so that several changes cause only one.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Reconciles until the task is aborted.
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
    // Not marked as seen, so that a change during the last reconciliation causes another one.
    let is_complete = health.borrow().is_complete;
    select! {
        () = sleep(with_jitter(if is_complete { INTERVAL_MS } else { INCOMPLETE_INTERVAL_MS })) => {}
        // Notifications that were published around the change may have been lost.
        Ok(()) = health.changed() => sleep(DEBOUNCE).await,
    }
}
