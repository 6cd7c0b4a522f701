//! The schedule: a server is killed soon after its new process has acknowledged a delivery. Other faults are injected
//! at the same time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::Cluster;
use crate::faults::Fault;
use crate::node::Node;
use crate::violations::Violation;

/// Time for a new process to acknowledge a delivery.
const SERVING_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for each server to acknowledge a delivery after a fault was removed.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(25);
/// Pause before each fault other than kills, in milliseconds.
const FAULT_PAUSE_MS: std::ops::Range<u64> = 500..3_000;

#[derive(Debug)]
pub struct Schedule {
    /// Number of kills after which the schedule is over.
    pub max_kills: Option<u64>,
    /// Time at which the schedule is over.
    pub ends_at: Option<Instant>,
    pub faults: Vec<Fault>,
    /// Number of times that each fault was injected.
    pub injected: Mutex<BTreeMap<Fault, u64>>,
    kill_count: AtomicU64,
    is_over: AtomicBool,
}

impl Schedule {
    #[must_use]
    pub fn new(max_kills: Option<u64>, ends_at: Option<Instant>, faults: Vec<Fault>) -> Self {
        let is_over = AtomicBool::new(false);
        Self { max_kills, ends_at, faults, injected: Mutex::default(), kill_count: AtomicU64::new(0), is_over }
    }

    #[must_use]
    pub fn kill_count(&self) -> u64 {
        self.kill_count.load(Ordering::SeqCst)
    }

    /// Injects faults until the schedule is over and the last faults are removed.
    pub async fn run(&self, cluster: &Arc<Cluster>, seed: u64) {
        // Kills and other faults have random numbers of their own, so that neither depends on the pace of the other.
        let (kills_rng, faults_rng) = (Rng::with_seed(seed ^ 0x6b69_6c6c), Rng::with_seed(seed ^ 0x6f74_6865_7273));
        let end = async {
            match self.ends_at {
                Some(ends_at) => sleep_until(ends_at).await,
                None => std::future::pending().await,
            }
        };
        let work = async {
            tokio::join!(self.inject_kills(cluster, kills_rng), self.inject_faults(cluster, faults_rng, seed));
        };
        tokio::pin!(work);
        tokio::select! {
            () = &mut work => return,
            () = end => self.is_over.store(true, Ordering::SeqCst),
        }
        // A fault that is under way is removed before the run continues.
        work.await;
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn count(&self, fault: Fault) {
        *self.injected.lock().unwrap().entry(fault).or_default() += 1;
    }

    /// Kills random servers until the schedule is over; without the fault `kill`, only waits for that.
    async fn inject_kills(&self, cluster: &Cluster, mut rng: Rng) {
        if !self.faults.contains(&Fault::Kill) {
            while !self.is_over() {
                sleep(Duration::from_millis(50)).await;
            }
            return;
        }
        while !self.is_over() && self.max_kills.is_none_or(|max_kills| self.kill_count() < max_kills) {
            let node = rng.usize(..cluster.nodes.len());
            // A third of the kills hit the server while its clients reconnect, the others while calls go on.
            let pause = Duration::from_millis(if rng.u8(..3) == 0 { rng.u64(0..20) } else { rng.u64(0..600) });
            if !self.wait_until_serving(cluster, node).await {
                continue;
            }
            sleep(pause).await;
            cluster.nodes[node].kill_and_restart().await;
            self.kill_count.fetch_add(1, Ordering::SeqCst);
            self.count(Fault::Kill);
        }
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Waits until the server's current process has acknowledged a delivery, and returns whether it has.
    async fn wait_until_serving(&self, cluster: &Cluster, node: usize) -> bool {
        let deadline = Instant::now() + SERVING_TIMEOUT;
        while !cluster.nodes[node].is_serving() {
            if self.is_over() {
                return false;
            }
            if Instant::now() > deadline {
                cluster
                    .report(Violation::Stuck, || format!("server {node} acknowledged nothing in {SERVING_TIMEOUT:?}"));
                return false;
            }
            sleep(Duration::from_millis(2)).await;
        }
        true
    }

    /// Injects faults other than kills, one at a time, until the schedule is over.
    async fn inject_faults(&self, cluster: &Arc<Cluster>, mut rng: Rng, seed: u64) {
        let faults: Vec<Fault> =
            self.faults.iter().copied().filter(|fault| *fault != Fault::Kill && fault.is_applicable(cluster)).collect();
        if faults.is_empty() {
            return;
        }
        // The faults of this round, shuffled. Each fault is injected once before any is injected again.
        let mut round: Vec<Fault> = Vec::new();
        let mut number = 0;
        while !self.is_over() {
            let resume_at = Instant::now() + Duration::from_millis(rng.u64(FAULT_PAUSE_MS));
            while !self.is_over() && Instant::now() < resume_at {
                sleep(Duration::from_millis(20)).await;
            }
            if round.is_empty() {
                round.clone_from(&faults);
                rng.shuffle(&mut round);
            }
            let (Some(fault), false) = (round.pop(), self.is_over()) else { continue };
            number += 1;
            // Each fault has random numbers of its own, so that it does not change those of the next fault.
            fault.inject(cluster, &mut Rng::with_seed(seed ^ (number << 20))).await;
            self.count(fault);
            check_recovery(cluster, fault).await;
        }
    }
}

/// Checks that every server acknowledges deliveries again after a fault, without being restarted.
async fn check_recovery(cluster: &Cluster, fault: Fault) {
    let before: Vec<u64> = cluster.nodes.iter().map(Node::total_acknowledged).collect();
    let deadline = Instant::now() + RECOVERY_TIMEOUT;
    for (node, before) in cluster.nodes.iter().zip(before) {
        while node.total_acknowledged() == before && !cluster.is_closing() {
            if Instant::now() > deadline {
                let (name, node) = (fault.as_str(), node.index);
                cluster.report(Violation::Stuck, || {
                    format!("server {node} acknowledged nothing for {RECOVERY_TIMEOUT:?} after {name}")
                });
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}
