//! The schedule: kills come as fast as each new process acknowledges something, and other faults come beside them.

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

/// A server that acknowledges nothing for this time is stuck.
const PROGRESS: Duration = Duration::from_secs(60);
/// A server that acknowledges nothing for this time after the end of a fault does not recover by itself.
const RECOVERY: Duration = Duration::from_secs(25);
/// Milliseconds between two faults other than kills.
const BETWEEN: std::ops::Range<u64> = 500..3_000;

#[derive(Debug)]
pub struct Schedule {
    /// Number of kills after which the run ends.
    pub kills: Option<u64>,
    pub until: Option<Instant>,
    pub faults: Vec<Fault>,
    /// How often each fault was injected.
    pub done: Mutex<BTreeMap<Fault, u64>>,
    killed: AtomicU64,
    is_over: AtomicBool,
}

impl Schedule {
    #[must_use]
    pub fn new(kills: Option<u64>, until: Option<Instant>, faults: Vec<Fault>) -> Self {
        let is_over = AtomicBool::new(false);
        Self { kills, until, faults, done: Mutex::default(), killed: AtomicU64::new(0), is_over }
    }

    #[must_use]
    pub fn killed(&self) -> u64 {
        self.killed.load(Ordering::SeqCst)
    }

    /// Injects faults until the schedule is over.
    pub async fn run(&self, cluster: &Arc<Cluster>, seed: u64) {
        // The two sequences of decisions are separate, so that neither depends on how fast the other proceeds.
        let (kills, others) = (Rng::with_seed(seed ^ 0x6b69_6c6c), Rng::with_seed(seed ^ 0x6f74_6865_7273));
        let time = async {
            match self.until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let work = async {
            tokio::join!(self.kill(cluster, kills), self.others(cluster, others, seed));
        };
        tokio::pin!(work);
        tokio::select! {
            () = &mut work => return,
            () = time => self.is_over.store(true, Ordering::SeqCst),
        }
        // The faults of this moment are removed first.
        work.await;
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn count(&self, fault: Fault) {
        *self.done.lock().unwrap().entry(fault).or_default() += 1;
    }

    async fn kill(&self, cluster: &Cluster, mut rng: Rng) {
        if !self.faults.contains(&Fault::Kill) {
            while !self.is_over() {
                sleep(Duration::from_millis(50)).await;
            }
            return;
        }
        while !self.is_over() && self.kills.is_none_or(|kills| self.killed() < kills) {
            let node = rng.usize(..cluster.nodes.len());
            // The kill comes at once, while all clients reconnect, or in the middle of running work.
            let pause = Duration::from_millis(if rng.u8(..3) == 0 { rng.u64(0..20) } else { rng.u64(0..600) });
            if !self.progress(cluster, node).await {
                continue;
            }
            sleep(pause).await;
            cluster.nodes[node].kill().await;
            self.killed.fetch_add(1, Ordering::SeqCst);
            self.count(Fault::Kill);
        }
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Waits until the server has acknowledged something since its start.
    async fn progress(&self, cluster: &Cluster, node: usize) -> bool {
        let deadline = Instant::now() + PROGRESS;
        while !cluster.nodes[node].is_serving() {
            if self.is_over() {
                return false;
            }
            if Instant::now() > deadline {
                cluster.report(Violation::Stuck, || format!("server {node} acknowledged nothing in {PROGRESS:?}"));
                return false;
            }
            sleep(Duration::from_millis(2)).await;
        }
        true
    }

    async fn others(&self, cluster: &Arc<Cluster>, mut rng: Rng, seed: u64) {
        let faults: Vec<Fault> =
            self.faults.iter().copied().filter(|fault| *fault != Fault::Kill && fault.is_applicable(cluster)).collect();
        if faults.is_empty() {
            return;
        }
        // Each kind comes once before any kind comes again.
        let mut bag: Vec<Fault> = Vec::new();
        let mut number = 0;
        while !self.is_over() {
            let until = Instant::now() + Duration::from_millis(rng.u64(BETWEEN));
            while !self.is_over() && Instant::now() < until {
                sleep(Duration::from_millis(20)).await;
            }
            if bag.is_empty() {
                bag.clone_from(&faults);
                rng.shuffle(&mut bag);
            }
            let (Some(fault), false) = (bag.pop(), self.is_over()) else { continue };
            number += 1;
            // Each fault has its own sequence of decisions, so that it never shifts those of the next.
            fault.inject(cluster, &mut Rng::with_seed(seed ^ (number << 20))).await;
            self.count(fault);
            recovered(cluster, fault).await;
        }
    }
}

/// Once a fault is over, every server has to acknowledge deliveries again without being restarted.
async fn recovered(cluster: &Cluster, fault: Fault) {
    let before: Vec<u64> = cluster.nodes.iter().map(Node::total).collect();
    let deadline = Instant::now() + RECOVERY;
    for (node, before) in cluster.nodes.iter().zip(before) {
        while node.total() == before && !cluster.is_closing() {
            if Instant::now() > deadline {
                let (name, node) = (fault.as_str(), node.index);
                cluster.report(Violation::Stuck, || {
                    format!("server {node} acknowledged nothing for {RECOVERY:?} after {name}")
                });
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}
