//! Checks whether this process can do its work, by doing some of it.
//!
//! A probe is written through the log writer, announced after its commit like any event, and must arrive at a follower
//! ([`Probe`]). So a process is not ready if its database refuses writes, or if its hub is stuck.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio::{join, spawn};
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::live::Hub;
use crate::live::probe::{PROBE_CALL, Probe};
use crate::store::{LogWriter, Store, StoreError};

/// Time for the database's answer, and for the commit and the delivery of a probe.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for a probe to subscribe.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for which a probe's result is reused, so that frequent requests cause no further writes.
const RESULT_TTL: Duration = Duration::from_millis(500);

/// Checks whether this process can do its work; cheap to clone.
#[derive(Debug, Clone)]
pub struct Readiness {
    cluster: Cluster,
    store: Store,
    log_writer: LogWriter,
    hub: Hub,
    /// The newest probe. At most one is running.
    newest: Arc<Mutex<Option<StartedProbe>>>,
}

/// When a probe started, and its progress.
type StartedProbe = (Instant, watch::Receiver<ProbeProgress>);

/// The results of a probe's steps; `None` while a step is running.
#[derive(Debug, Clone, Copy, Default)]
struct ProbeProgress {
    appended: Option<Result<(), CheckFailure>>,
    delivered: Option<Result<(), CheckFailure>>,
}

/// Why a check failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckFailure {
    /// The storage did not answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The storage is down, for this reason.
    #[error("{0}")]
    Outage(&'static str),
    /// The storage refused the check.
    #[error("failed")]
    Failed,
    /// A committed probe did not arrive in time.
    #[error("stuck")]
    Stuck,
    /// The follower of the probe was closed.
    #[error("broken")]
    Broken,
    /// The check depends on another check that failed.
    #[error("not tried")]
    NotTried,
    /// The log writer's queue is nine tenths full.
    #[error("nearly full")]
    NearlyFull,
    /// The server is draining.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// The result of every check.
#[derive(Debug)]
pub struct ReadinessReport {
    /// The database answers a query.
    pub database: Result<(), CheckFailure>,
    /// A write is committed.
    pub append: Result<(), CheckFailure>,
    /// A committed probe arrives at a follower.
    pub deliver: Result<(), CheckFailure>,
    /// The log writer's queue has room.
    pub write_queue: Result<(), CheckFailure>,
    /// The server is not draining.
    pub serving: Result<(), CheckFailure>,
    /// Whether the link to the other servers works; `None` without Redis. It does not affect readiness, because
    /// reconciliation delivers without it.
    pub is_linked: Option<bool>,
}

impl ReadinessReport {
    /// Whether requests should be sent to this process.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        [self.database, self.append, self.deliver, self.write_queue, self.serving].iter().all(Result::is_ok)
    }
}

impl Readiness {
    /// Checks these parts of a server.
    #[must_use]
    pub fn new(cluster: Cluster, store: Store, log_writer: LogWriter, hub: Hub) -> Self {
        Self { cluster, store, log_writer, hub, newest: Arc::default() }
    }

    /// Runs all checks. Ends within a few seconds even if something is stuck.
    pub async fn check(&self) -> ReadinessReport {
        let ping = async {
            match timeout(CHECK_TIMEOUT, self.store.ping()).await {
                Ok(result) => result.map_err(|error| storage_failure(&error)),
                Err(_) => Err(CheckFailure::Timeout),
            }
        };
        let (database, progress) = join!(ping, self.probe());
        let append = progress.appended.unwrap_or(Err(CheckFailure::Timeout));
        // A probe that was not written cannot arrive, which says nothing about the delivery.
        let undelivered = if append.is_ok() { CheckFailure::Stuck } else { CheckFailure::NotTried };
        let (waiting, capacity) = self.log_writer.load();
        ReadinessReport {
            database,
            append,
            deliver: progress.delivered.unwrap_or(Err(undelivered)),
            write_queue: if waiting < capacity * 9 / 10 { Ok(()) } else { Err(CheckFailure::NearlyFull) },
            serving: if self.hub.is_draining() { Err(CheckFailure::ShuttingDown) } else { Ok(()) },
            is_linked: self.cluster.is_linked(),
        }
    }

    /// Joins the running probe, reuses the result of a recent one, or starts one. Returns its progress when it has
    /// ended or its time is up.
    async fn probe(&self) -> ProbeProgress {
        let mut progress = {
            let mut newest = self.newest.lock();
            match &*newest {
                Some((began, progress)) if is_running(progress) || began.elapsed() < RESULT_TTL => progress.clone(),
                _ => newest.insert((Instant::now(), self.start_probe())).1.clone(),
            }
        };
        // After the timeout, the steps that have a result still count.
        let _ = timeout(CHECK_TIMEOUT, progress.wait_for(|progress| progress.delivered.is_some())).await;
        *progress.borrow()
    }

    /// Starts a probe in its own task, so that a stuck probe does not block the check.
    fn start_probe(&self) -> watch::Receiver<ProbeProgress> {
        let (report, progress) = watch::channel(ProbeProgress::default());
        let Self { cluster, hub, .. } = self.clone();
        spawn(async move {
            let text = Uuid::new_v4().to_string();
            // This runs on a blocking thread, because it blocks for ever if a lock of the hub is never released.
            let subscribe = spawn_blocking(move || Probe::new(&hub));
            let probe = timeout(FOLLOW_TIMEOUT, subscribe).await.ok().and_then(Result::ok);
            let frame = json!({"type": "probe", "probe": text}).to_string().into();
            // The frame of the probe is announced only if there is a follower that waits for it.
            let announced = probe.is_some().then_some((PROBE_CALL, frame));
            let appended = cluster.heartbeat(announced).await.map_err(|error| storage_failure(&error));
            report.send_modify(|progress| progress.appended = Some(appended));
            let delivered = match (appended, probe) {
                (_, None) => Err(CheckFailure::Stuck),
                (Err(_), _) => Err(CheckFailure::NotTried),
                (Ok(()), Some(mut probe)) => {
                    let received = timeout(CHECK_TIMEOUT, probe.receives(&text)).await;
                    // Unsubscribing takes the lock of the hub, too.
                    spawn_blocking(move || drop(probe));
                    match received {
                        Ok(received) => received.map_err(|_| CheckFailure::Broken),
                        Err(_) => Err(CheckFailure::Stuck),
                    }
                }
            };
            report.send_modify(|progress| progress.delivered = Some(delivered));
        });
        progress
    }
}

/// Whether a probe has not reported its last result and its task has not ended, as by a panic.
fn is_running(progress: &watch::Receiver<ProbeProgress>) -> bool {
    progress.borrow().delivered.is_none() && progress.has_changed().is_ok()
}

fn storage_failure(error: &StoreError) -> CheckFailure {
    error.outage_reason().map_or(CheckFailure::Failed, CheckFailure::Outage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::announcer;
    use crate::ingest::Ingest;
    use crate::ingest::naming::{CallLinks, Naming};
    use crate::ingest::receipt::render;
    use crate::ingest::signature::SignatureVerifier;
    use crate::log::UnknownCalls;
    use crate::policy::WebhookAuth;

    async fn readiness(dir: &std::path::Path) -> Readiness {
        let url = format!("sqlite://{}", dir.join("log.db").display());
        let store = Store::open(&url).await.expect("a database");
        let hub = Hub::on_tasks();
        let on_commit = announcer(hub.clone(), None);
        let (log_writer, _) =
            LogWriter::start(store.clone(), UnknownCalls::Create, render, on_commit).expect("a thread");
        let verifier = SignatureVerifier::new(WebhookAuth::Required, Vec::new(), 0);
        let naming = Naming { links: CallLinks::new(&[]), trusted_variable: None };
        let ingest = Arc::new(Ingest::new(verifier, naming, log_writer.clone()));
        let cluster = Cluster::new("here".into(), hub.clone(), store.clone(), None, log_writer.clone(), ingest);
        Readiness::new(cluster, store, log_writer, hub)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_working_server_is_ready_and_its_probe_is_not_listed() {
        let dir = tempfile::tempdir().expect("a folder");
        let readiness = readiness(dir.path()).await;
        let report = readiness.check().await;
        assert!(report.is_ready(), "{report:?}");
        assert!(readiness.hub.followers().is_empty() && readiness.hub.connections().is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_server_with_a_stuck_hub_is_not_ready() {
        let dir = tempfile::tempdir().expect("a folder");
        let readiness = readiness(dir.path()).await;
        let lock = readiness.hub.hold_lock();
        let report = readiness.check().await;
        assert!(!report.is_ready(), "{report:?}");
        assert_eq!(report.deliver, Err(CheckFailure::Stuck), "{report:?}");
        assert_eq!(report.database, Ok(()), "{report:?}");
        drop(lock);
        // The stuck probe ends, and a later one succeeds.
        while !readiness.check().await.is_ready() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_server_whose_database_refuses_writes_is_not_ready() {
        let dir = tempfile::tempdir().expect("a folder");
        let readiness = readiness(dir.path()).await;
        readiness.store.refuse_writes(true).await;
        let report = readiness.check().await;
        assert_eq!(report.append, Err(CheckFailure::Outage("read-only")), "{report:?}");
        assert_eq!(report.deliver, Err(CheckFailure::NotTried), "{report:?}");
        readiness.store.refuse_writes(false).await;
        while !readiness.check().await.is_ready() {
            tokio::task::yield_now().await;
        }
    }
}
