//! Server processes that share one PostgreSQL.
//!
//! The database says which processes there are: each writes its row every few seconds (`heartbeat`). What one process wants to
//! know of all others it asks over the bus, and gathers what comes within a deadline (`rpc`).
//!
//! - [`announcer`]: carries what was committed to the followers, in this process and in others
//! - [`bus`]: this process's link to the others, and whether it works
//! - [`message`]: what goes over it
//! - `seal`: how it is known to be of one of us
//! - `redis`: Redis Pub/Sub, plain and sharded
//! - [`reconcile`]: finds what an announcement that never came hid

pub mod announcer;
pub mod bus;
mod heartbeat;
pub mod message;
pub mod reconcile;
mod redis;
mod rpc;
mod seal;

pub use announcer::Announcer;
pub use bus::Bus;
pub use heartbeat::heartbeat_loop;
pub use redis::address;
pub use rpc::{FeedView, Question, Replies};

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use callscope_common::Timestamp;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::clock;
use crate::ingest::Ingest;
use crate::live::Hub;
use crate::store::nodes::Node;
use crate::store::{LogWriter, Store};
use bus::Incoming;

/// This process among its peers; cheap to clone.
#[derive(Clone, Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    node: String,
    started_at: Timestamp,
    started: Instant,
    hub: Hub,
    store: Store,
    announcer: Announcer,
    /// Where this process listens, once it does.
    address: OnceLock<String>,
    /// Where the parts of an answer go, by the question's id.
    open_questions: Mutex<HashMap<Uuid, mpsc::Sender<Incoming>>>,
    /// The peers as last read.
    peers: Mutex<Vec<Node>>,
}

/// What a process counts is kept in several places.
#[derive(Debug, Clone)]
pub struct Counted {
    /// Knows the connections.
    pub hub: Hub,
    /// Knows the queue of writes.
    pub log_writer: LogWriter,
    /// Knows who was refused.
    pub ingest: Arc<Ingest>,
}

/// Draws a name for this process.
#[must_use]
pub fn random_node_name() -> String {
    Uuid::new_v4().simple().to_string()[..12].to_owned()
}

impl Cluster {
    /// This process, called `node`.
    #[must_use]
    pub fn new(node: String, hub: Hub, store: Store, announcer: Announcer) -> Self {
        let shared = Shared {
            node,
            started_at: clock::now(),
            started: Instant::now(),
            hub,
            store,
            announcer,
            address: OnceLock::new(),
            open_questions: Mutex::default(),
            peers: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// This process's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.shared.node
    }

    /// Says where this process listens.
    pub fn listens_on(&self, address: SocketAddr) {
        // It listens once.
        let _ = self.shared.address.set(address.to_string());
    }

    fn address(&self) -> String {
        self.shared.address.get().cloned().unwrap_or_default()
    }

    /// Whether the link to the others works; `None` where there is none.
    #[must_use]
    pub fn is_linked(&self) -> Option<bool> {
        self.shared.announcer.bus().map(Bus::is_up)
    }
}
