//! The servers of a run with everything around them, shared by the tasks that send, follow, break and check.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use fastrand::Rng;

use callscope_tests::{Postgres, Redis};

use crate::disk::{Disk, Fsync};
use crate::disturbances::Disturbances;
use crate::ledger::Ledger;
use crate::node::Node;
use crate::proxy::Proxy;
use crate::subscription::Subscription;
use crate::violations::Violation;

/// One in this many requests and connections goes through the node's proxy.
const PROXIED: u8 = 3;

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
    /// The SQLite file, if the run is on SQLite.
    pub file: Option<PathBuf>,
    /// The newest copy of the file that another program made during the run.
    pub copy: Mutex<Option<PathBuf>>,
    /// A disk that can be filled.
    pub disk: Option<Disk>,
    pub fsync: Option<Fsync>,
    pub http: reqwest::Client,
    /// The token of followers and of the checks.
    pub token: String,
    /// Set when no more calls begin.
    pub closing: AtomicBool,
    /// Set when those that still wait give up.
    pub given_up: AtomicBool,
    /// The heads of all logs by the numbers of their calls, once nothing is appended any more.
    pub heads: OnceLock<HashMap<usize, i64>>,
    /// Subscriptions that ended.
    pub archive: Mutex<Vec<Subscription>>,
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

    /// Returns a server and an address of it: its own port or its proxy.
    pub fn pick_node(&self, rng: &mut Rng) -> (&Node, SocketAddr) {
        let at = rng.usize(..self.nodes.len());
        let proxied = rng.u8(..PROXIED) == 0;
        (&self.nodes[at], if proxied { self.client_proxies[at].address } else { self.nodes[at].address })
    }

    pub fn socket(&self, rng: &mut Rng) -> SocketAddr {
        self.pick_node(rng).1
    }

    /// Notes a violation.
    pub fn report(&self, violation: Violation, case: impl FnOnce() -> String) {
        self.ledger.violations.add(violation, case);
    }

    /// Keeps subscriptions for the check at the end.
    pub fn archive(&self, subscriptions: impl IntoIterator<Item = Subscription>) {
        self.archive.lock().unwrap().extend(subscriptions);
    }

    /// Ends every process that was started.
    pub async fn end(&self) {
        for node in &self.nodes {
            node.end().await;
        }
        if let Some(postgres) = &self.postgres {
            postgres.end().await;
        }
        if let Some(redis) = &self.redis {
            redis.end().await;
        }
        if let Some(disk) = &self.disk {
            disk.unmount();
        }
    }
}
