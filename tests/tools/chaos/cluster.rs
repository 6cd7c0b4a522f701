//! The servers of a run, their services and the ledger, shared by the tasks that send, follow, break and check.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use fastrand::Rng;

use callscope_tests::{Postgres, Redis};

use crate::disk::{Disk, FailingFsync};
use crate::disturbances::Disturbances;
use crate::ledger::Ledger;
use crate::node::Node;
use crate::proxy::Proxy;
use crate::subscription::Subscription;
use crate::violations::Violation;

/// One in this number of requests and connections goes through the node's proxy.
const PROXIED_ONE_IN: u8 = 3;

#[derive(Debug)]
pub struct Cluster {
    pub ledger: Ledger,
    pub disturbances: Disturbances,
    pub nodes: Vec<Node>,
    /// For each server, the proxy of its clients' connections.
    pub client_proxies: Vec<Proxy>,
    /// For each server, the proxy of its connections to PostgreSQL.
    pub postgres_proxies: Vec<Proxy>,
    /// For each server, the proxy of its connections to Redis.
    pub redis_proxies: Vec<Proxy>,
    pub postgres: Option<Postgres>,
    pub redis: Option<Redis>,
    /// The database file, if the run is on SQLite.
    pub sqlite_file: Option<PathBuf>,
    /// The newest copy of the SQLite file that another program made during the run.
    pub sqlite_backup: Mutex<Option<PathBuf>>,
    pub disk: Option<Disk>,
    pub failing_fsync: Option<FailingFsync>,
    pub http: reqwest::Client,
    /// The token of followers and of the checks.
    pub token: String,
    /// Set when no more calls start.
    pub closing: AtomicBool,
    /// Set when tasks that still wait or retry must stop.
    pub given_up: AtomicBool,
    /// The heads of all logs by the plan indexes of their calls, once nothing is appended any more.
    pub heads: OnceLock<HashMap<usize, i64>>,
    /// Subscriptions that wait for the check at the end.
    pub archived: Mutex<Vec<Subscription>>,
}

impl Cluster {
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    #[must_use]
    pub fn has_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }

    /// Returns the heads once they are final.
    #[must_use]
    pub fn heads(&self) -> Option<&HashMap<usize, i64>> {
        self.heads.get()
    }

    /// Returns a random server and one of its addresses: its own or that of its proxy.
    pub fn pick_node(&self, rng: &mut Rng) -> (&Node, SocketAddr) {
        let index = rng.usize(..self.nodes.len());
        let is_proxied = rng.u8(..PROXIED_ONE_IN) == 0;
        (&self.nodes[index], if is_proxied { self.client_proxies[index].address } else { self.nodes[index].address })
    }

    pub fn pick_address(&self, rng: &mut Rng) -> SocketAddr {
        self.pick_node(rng).1
    }

    pub fn report(&self, violation: Violation, case: impl FnOnce() -> String) {
        self.ledger.violations.add(violation, case);
    }

    /// Keeps subscriptions for the check at the end.
    pub fn archive(&self, subscriptions: impl IntoIterator<Item = Subscription>) {
        self.archived.lock().unwrap().extend(subscriptions);
    }

    /// Ends every process of the run and unmounts the disk.
    pub async fn stop(&self) {
        for node in &self.nodes {
            node.kill().await;
        }
        if let Some(postgres) = &self.postgres {
            postgres.end().await;
        }
        if let Some(redis) = &self.redis {
            redis.kill().await;
        }
        if let Some(disk) = &self.disk {
            disk.unmount();
        }
    }
}
