//! Server processes that share one PostgreSQL.
//!
//! The database lists the processes: each refreshes its row every few seconds (`heartbeat`). A process asks all others
//! over the bus and collects the replies that arrive within a deadline (`rpc`).
//!
//! - `announcer`: publishes committed notifications to the followers, in this process and in others
//! - [`bus`]: this process's link to the others, and its health
//! - [`message`]: the messages on the bus
//! - `seal`: authenticates the messages of the servers of this cluster
//! - `redis`: Redis Pub/Sub, plain and sharded
//! - [`reconcile`]: when followed calls are compared with the database

mod announcer;
pub mod bus;
mod heartbeat;
pub mod message;
pub mod reconcile;
mod redis;
mod rpc;
mod seal;

pub use announcer::announcer;
pub use bus::Bus;
pub use heartbeat::heartbeat_loop;
pub use redis::{InvalidRedisUrl, address};
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

/// Handle to this process's place in the cluster; cheap to clone.
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
    bus: Option<Bus>,
    log_writer: LogWriter,
    ingest: Arc<Ingest>,
    /// Where this process listens; unset before it does.
    address: OnceLock<String>,
    /// The queue for the parts of the replies, by the id of the question.
    open_questions: Mutex<HashMap<Uuid, mpsc::Sender<Incoming>>>,
    /// The processes with a recent heartbeat, as last read from the database.
    last_nodes: Mutex<Vec<Node>>,
}

/// Returns a random name for this process.
#[must_use]
pub fn random_node_name() -> String {
    Uuid::new_v4().simple().to_string()[..12].to_owned()
}

impl Cluster {
    /// Creates the handle of a process that is called `node`.
    #[must_use]
    pub fn new(
        node: String,
        hub: Hub,
        store: Store,
        bus: Option<Bus>,
        log_writer: LogWriter,
        ingest: Arc<Ingest>,
    ) -> Self {
        let shared = Shared {
            node,
            started_at: clock::now(),
            started: Instant::now(),
            hub,
            store,
            bus,
            log_writer,
            ingest,
            address: OnceLock::new(),
            open_questions: Mutex::default(),
            last_nodes: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// This process's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.shared.node
    }

    /// Records where this process listens.
    pub fn listens_on(&self, address: SocketAddr) {
        // A process listens once, so the address is never set already.
        let _ = self.shared.address.set(address.to_string());
    }

    fn address(&self) -> String {
        self.shared.address.get().cloned().unwrap_or_default()
    }

    /// Whether the link to the other processes works; `None` without a link.
    #[must_use]
    pub fn is_linked(&self) -> Option<bool> {
        self.shared.bus.as_ref().map(Bus::is_up)
    }
}
