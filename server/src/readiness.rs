//! Whether this process can do its work, found out by doing it.
//!
//! A probe writes through the one write path, is announced after its commit like any event, and must arrive at a follower
//! ([`Probe`]). So a database that takes no writes is not green, nor is a hub that is stuck.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio::{join, spawn};
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::live::Hub;
use crate::live::probe::{CALL, Probe};
use crate::store::{LogWriter, Store, StoreError};

/// For each check to come through.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// For a probe to begin to follow.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(1);
/// A probe's result holds for so long, so that nobody can have the disk written to by asking.
const RESULT_TTL: Duration = Duration::from_millis(500);

/// Finds out.
#[derive(Debug, Clone)]
pub struct Readiness {
    cluster: Cluster,
    store: Store,
    log_writer: LogWriter,
    hub: Hub,
    /// The newest probe; at most one is under way.
    newest: Arc<Mutex<Option<RunningProbe>>>,
}

/// A probe: since when, and how far it came.
type RunningProbe = (Instant, watch::Receiver<ProbeProgress>);

/// How far a probe came.
#[derive(Debug, Clone, Copy, Default)]
struct ProbeProgress {
    appended: Option<Result<(), &'static str>>,
    delivered: Option<Result<(), &'static str>>,
}

/// What was found out.
#[derive(Debug)]
pub struct ReadinessReport {
    /// Whether requests should come here.
    pub is_ready: bool,
    /// Each check: `ok`, or what is wrong.
    pub checks: Value,
}

impl Readiness {
    /// Checks these.
    #[must_use]
    pub fn new(cluster: Cluster, store: Store, log_writer: LogWriter, hub: Hub) -> Self {
        Self { cluster, store, log_writer, hub, newest: Arc::default() }
    }

    /// Checks everything, within a few seconds whatever is stuck.
    pub async fn check(&self) -> ReadinessReport {
        let read = async {
            match timeout(CHECK_TIMEOUT, self.store.ping()).await {
                Ok(result) => result.map_err(|error| failure(&error)),
                Err(_) => Err("no answer in time"),
            }
        };
        let (read, progress) = join!(read, self.probe());
        let late = Err("no answer in time");
        let appended = progress.appended.unwrap_or(late);
        // What was not written cannot arrive, and says nothing about the way.
        let delivered = progress.delivered.unwrap_or(if appended.is_ok() { Err("stuck") } else { Err("not tried") });
        let (waiting, room) = self.log_writer.load();
        let queue = if waiting < room * 9 / 10 { Ok(()) } else { Err("nearly full") };
        let serving = if self.hub.is_draining() { Err("the server is shutting down") } else { Ok(()) };
        let is_ready = [read, appended, delivered, queue, serving].iter().all(Result::is_ok);
        let word = |check: Result<(), &'static str>| check.err().unwrap_or("ok");
        let mut checks = json!({
            "database": word(read),
            "append": word(appended),
            "deliver": word(delivered),
            "write_queue": word(queue),
            "draining": word(serving),
        });
        if let Some(is_linked) = self.cluster.is_linked() {
            // No reason to stay away: the sweep delivers without it.
            checks["redis"] = if is_linked { "ok" } else { "down; the sweep delivers" }.into();
        }
        ReadinessReport { is_ready, checks }
    }

    async fn probe(&self) -> ProbeProgress {
        let mut progress = {
            let mut newest = self.newest.lock();
            match &*newest {
                Some((began, progress)) if is_running(progress) || began.elapsed() < RESULT_TTL => progress.clone(),
                _ => newest.insert((Instant::now(), self.start())).1.clone(),
            }
        };
        // In time or not: what is known by then counts.
        let _ = timeout(CHECK_TIMEOUT, progress.wait_for(|progress| progress.delivered.is_some())).await;
        *progress.borrow()
    }

    /// Starts a probe in a task of its own: should it get stuck, whoever asks does not.
    fn start(&self) -> watch::Receiver<ProbeProgress> {
        let (report, progress) = watch::channel(ProbeProgress::default());
        let Self { cluster, log_writer, hub, .. } = self.clone();
        spawn(async move {
            let text = Uuid::new_v4().to_string();
            // Not on a thread that serves others: where a lock is never given back, this waits for ever.
            let follow = spawn_blocking(move || Probe::new(&hub));
            let probe = timeout(FOLLOW_TIMEOUT, follow).await.ok().and_then(Result::ok);
            let frame = json!({"type": "probe", "probe": text}).to_string().into();
            let followed = probe.is_some().then_some((CALL, frame));
            let appended = cluster.heartbeat(&log_writer, followed).await.map_err(|error| failure(&error));
            report.send_modify(|progress| progress.appended = Some(appended));
            let delivered = match (appended, probe) {
                (_, None) => Err("stuck"),
                (Err(_), _) => Err("not tried"),
                (Ok(()), Some(mut probe)) => {
                    let heard = timeout(CHECK_TIMEOUT, probe.receives(&text)).await;
                    spawn_blocking(move || drop(probe));
                    match heard {
                        Ok(heard) => heard.map_err(|_| "broken"),
                        Err(_) => Err("stuck"),
                    }
                }
            };
            report.send_modify(|progress| progress.delivered = Some(delivered));
        });
        progress
    }
}

/// Whether the probe's task has neither reported nor ended.
fn is_running(progress: &watch::Receiver<ProbeProgress>) -> bool {
    progress.borrow().delivered.is_none() && progress.has_changed().is_ok()
}

fn failure(error: &StoreError) -> &'static str {
    error.outage_reason().unwrap_or("failed")
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
        let hub = Hub::default();
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
        assert!(report.is_ready, "{report:?}");
        assert!(readiness.hub.followers().is_empty() && readiness.hub.connections().is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_hub_that_is_stuck_is_not_green() {
        let dir = tempfile::tempdir().expect("a folder");
        let readiness = readiness(dir.path()).await;
        let stuck = readiness.hub.clone().stick();
        let report = readiness.check().await;
        assert!(!report.is_ready, "{report:?}");
        assert_eq!(report.checks["deliver"], "stuck", "{report:?}");
        assert_eq!(report.checks["database"], "ok", "{report:?}");
        drop(stuck);
        // The stuck probe comes through, and the next one finds all well.
        while !readiness.check().await.is_ready {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_database_that_takes_no_writes_is_not_green() {
        let dir = tempfile::tempdir().expect("a folder");
        let readiness = readiness(dir.path()).await;
        let Store::Sqlite { writer, .. } = &readiness.store else { unreachable!() };
        let query_only = |on: bool| {
            let writer = Arc::clone(writer);
            async move {
                let writer = writer.lock().await;
                writer.as_ref().expect("a connection").pragma_update(None, "query_only", on).expect("a pragma");
            }
        };
        query_only(true).await;
        let report = readiness.check().await;
        assert_eq!(report.checks["append"], "read-only", "{report:?}");
        assert_eq!(report.checks["deliver"], "not tried", "{report:?}");
        query_only(false).await;
        while !readiness.check().await.is_ready {
            tokio::task::yield_now().await;
        }
    }
}
