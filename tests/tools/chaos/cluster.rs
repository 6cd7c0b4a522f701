//! All there is in one run, shared by those who speak, follow, break and check.

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

/// One in so many requests and connections goes through the node's proxy.
const PROXIED: u8 = 3;

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    /// What was said.
    pub ledger: Ledger,
    /// What was disturbed, and how late events came.
    pub disturbances: Disturbances,
    /// The servers.
    pub nodes: Vec<Node>,
    /// For each server: what its clients' connections may go through.
    pub client_proxies: Vec<Proxy>,
    /// For each server: what its connections to PostgreSQL go through.
    pub postgres_proxies: Vec<Proxy>,
    /// For each server: what its connections to Redis go through.
    pub redis_proxies: Vec<Proxy>,
    /// The database, where it is one of its own.
    pub postgres: Option<Postgres>,
    /// Joins several servers.
    pub redis: Option<Redis>,
    /// The SQLite file, where there is one.
    pub file: Option<PathBuf>,
    /// A copy of it that another program made meanwhile.
    pub copy: Mutex<Option<PathBuf>>,
    /// A disk that can be filled.
    pub disk: Option<Disk>,
    /// Makes fsync fail.
    pub fsync: Option<Fsync>,
    /// For requests.
    pub http: reqwest::Client,
    /// For followers and the checker.
    pub token: String,
    /// No call begins any more.
    pub closing: AtomicBool,
    /// Whoever still waits may go.
    pub given_up: AtomicBool,
    /// The heads of all logs by the calls' numbers, once nothing is added to them any more.
    pub heads: OnceLock<HashMap<usize, i64>>,
    /// Subscriptions that came to their end.
    pub archive: Mutex<Vec<Subscription>>,
}

impl Cluster {
    /// Whether no call begins any more.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Whether the patience of the end has run out.
    #[must_use]
    pub fn has_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }

    /// The final heads, once they are.
    #[must_use]
    pub fn heads(&self) -> Option<&HashMap<usize, i64>> {
        self.heads.get()
    }

    /// A server to ask, and where: at its own port or through its proxy.
    pub fn pick_node(&self, rng: &mut Rng) -> (&Node, SocketAddr) {
        let at = rng.usize(..self.nodes.len());
        let proxied = rng.u8(..PROXIED) == 0;
        (&self.nodes[at], if proxied { self.client_proxies[at].address } else { self.nodes[at].address })
    }

    /// Where to connect to.
    pub fn socket(&self, rng: &mut Rng) -> SocketAddr {
        self.pick_node(rng).1
    }

    /// Keeps subscriptions for the check.
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
