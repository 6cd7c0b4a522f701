//! Whether this process can do its work, found out by doing it.
//!
//! A probe is written through the log writer, announced after its commit like any event, and must arrive at a follower
//! ([`Probe`]). So neither a database that takes no writes nor a hub that is stuck counts as ready.

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

/// Time for each check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for a probe to begin to follow.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for which a probe's result is used again, so that frequent requests cause no further writes.
const RESULT_TTL: Duration = Duration::from_millis(500);

/// Checks whether this process can do its work; cheap to clone.
#[derive(Debug, Clone)]
pub struct Readiness {
    cluster: Cluster,
    store: Store,
    log_writer: LogWriter,
    hub: Hub,
    /// The newest probe. At most one is running.
    newest: Arc<Mutex<Option<RunningProbe>>>,
}

/// When a probe began, and its progress.
type RunningProbe = (Instant, watch::Receiver<ProbeProgress>);

/// The steps of a probe that have come to a result.
#[derive(Debug, Clone, Copy, Default)]
struct ProbeProgress {
    appended: Option<Result<(), CheckFailure>>,
    delivered: Option<Result<(), CheckFailure>>,
}

/// What is wrong with a part of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckFailure {
    /// It did not answer in time.
    Timeout,
    /// The storage is down, for this reason.
    Outage(&'static str),
    /// The storage refused the check.
    Failed,
    /// A committed probe did not arrive in time.
    Stuck,
    /// The follower of the probe was closed.
    Broken,
    /// The check needs another one that failed.
    NotTried,
    /// The log writer's queue has little room left.
    NearlyFull,
    /// The server is draining.
    ShuttingDown,
}

/// The result of every check.
#[derive(Debug)]
pub struct ReadinessReport {
    /// The database answers a query.
    pub database: Result<(), CheckFailure>,
    /// A write is committed.
    pub append: Result<(), CheckFailure>,
    /// What is committed arrives at a follower.
    pub deliver: Result<(), CheckFailure>,
    /// The log writer's queue has room.
    pub write_queue: Result<(), CheckFailure>,
    /// The server is not draining.
    pub serving: Result<(), CheckFailure>,
    /// Whether the link to the other servers works, if there is one. Without it reconciliation delivers, so it does not
    /// count.
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

    /// Checks everything, within a few seconds whatever is stuck.
    pub async fn check(&self) -> ReadinessReport {
        let read = async {
            match timeout(CHECK_TIMEOUT, self.store.ping()).await {
                Ok(result) => result.map_err(|error| storage_failure(&error)),
                Err(_) => Err(CheckFailure::Timeout),
            }
        };
        let (database, progress) = join!(read, self.probe());
        let append = progress.appended.unwrap_or(Err(CheckFailure::Timeout));
        // What was not written cannot arrive, so it says nothing about the way to the follower.
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

    async fn probe(&self) -> ProbeProgress {
        let mut progress = {
            let mut newest = self.newest.lock();
            match &*newest {
                Some((began, progress)) if is_running(progress) || began.elapsed() < RESULT_TTL => progress.clone(),
                _ => newest.insert((Instant::now(), self.start())).1.clone(),
            }
        };
        // What is known when the time is up counts.
        let _ = timeout(CHECK_TIMEOUT, progress.wait_for(|progress| progress.delivered.is_some())).await;
        *progress.borrow()
    }

    /// Starts a probe in a task of its own, so that a probe that is stuck does not hold up its caller.
    fn start(&self) -> watch::Receiver<ProbeProgress> {
        let (report, progress) = watch::channel(ProbeProgress::default());
        let Self { cluster, log_writer, hub, .. } = self.clone();
        spawn(async move {
            let text = Uuid::new_v4().to_string();
            // On a blocking thread: if a lock of the hub is never released, this waits for ever.
            let follow = spawn_blocking(move || Probe::new(&hub));
            let probe = timeout(FOLLOW_TIMEOUT, follow).await.ok().and_then(Result::ok);
            let frame = json!({"type": "probe", "probe": text}).to_string().into();
            let followed = probe.is_some().then_some((PROBE_CALL, frame));
            let appended = cluster.heartbeat(&log_writer, followed).await.map_err(|error| storage_failure(&error));
            report.send_modify(|progress| progress.appended = Some(appended));
            let delivered = match (appended, probe) {
                (_, None) => Err(CheckFailure::Stuck),
                (Err(_), _) => Err(CheckFailure::NotTried),
                (Ok(()), Some(mut probe)) => {
                    let heard = timeout(CHECK_TIMEOUT, probe.receives(&text)).await;
                    spawn_blocking(move || drop(probe));
                    match heard {
                        Ok(heard) => heard.map_err(|_| CheckFailure::Broken),
                        Err(_) => Err(CheckFailure::Stuck),
                    }
                }
            };
            report.send_modify(|progress| progress.delivered = Some(delivered));
        });
        progress
    }
}

/// Whether the task of a probe has neither reported its last result nor ended.
fn is_running(progress: &watch::Receiver<ProbeProgress>) -> bool {
    progress.borrow().delivered.is_none() && progress.has_changed().is_ok()
}

fn storage_failure(error: &StoreError) -> CheckFailure {
    error.outage_reason().map_or(CheckFailure::Failed, CheckFailure::Outage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Announcer;
    use crate::ingest::receipt::render;
    use crate::log::UnknownCalls;

    async fn readiness(dir: &std::path::Path) -> Readiness {
        let url = format!("sqlite://{}", dir.join("log.db").display());
        let store = Store::open(&url).await.expect("a database");
        let hub = Hub::on_tasks();
        let announcer = Announcer::Local(hub.clone());
        let publisher = announcer.clone();
        let on_commit = Box::new(move |notifications| publisher.publish(notifications));
        let (log_writer, _) =
            LogWriter::start(store.clone(), UnknownCalls::Create, render, on_commit).expect("a thread");
        let cluster = Cluster::new("here".into(), hub.clone(), store.clone(), announcer);
        Readiness::new(cluster, store, log_writer, hub)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_server_that_works_is_ready_and_lists_no_probe() {
        let dir = tempfile::tempdir().expect("a folder");
        let readiness = readiness(dir.path()).await;
        let report = readiness.check().await;
        assert!(report.is_ready(), "{report:?}");
        assert!(readiness.hub.followers().is_empty() && readiness.hub.connections().is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_hub_that_is_stuck_is_not_green() {
        let dir = tempfile::tempdir().expect("a folder");
        let readiness = readiness(dir.path()).await;
        let stuck = readiness.hub.hold_lock();
        let report = readiness.check().await;
        assert!(!report.is_ready(), "{report:?}");
        assert_eq!(report.deliver, Err(CheckFailure::Stuck), "{report:?}");
        assert_eq!(report.database, Ok(()), "{report:?}");
        drop(stuck);
        // The stuck probe comes through, and the next one finds all well.
        while !readiness.check().await.is_ready() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_database_that_takes_no_writes_is_not_green() {
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
