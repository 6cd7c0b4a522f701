//! Server processes that share one PostgreSQL.
//!
//! The database says which processes there are: each writes its row every few seconds (`node`). What one process wants to
//! know of all others it asks over the bus, and gathers what comes within a deadline (`ask`). Events need none of this.

mod ask;
mod node;

pub use ask::{FeedView, Gathered, Question};
pub use node::beat;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use callscope_common::Timestamp;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::ingest::Ingest;
use crate::live::broker::bus::Said;
use crate::live::{Broker, Hub};
use crate::store::nodes::NodeRow;
use crate::store::{Appender, Store};

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
    broker: Broker,
    /// Where this process listens, once it does.
    address: OnceLock<String>,
    /// Where the parts of an answer go, by the question's id.
    asked: Mutex<HashMap<Uuid, mpsc::Sender<Said>>>,
    /// The peers as last read.
    peers: Mutex<Vec<NodeRow>>,
}

/// What a process counts is kept in several places.
#[derive(Debug, Clone)]
pub struct Counted {
    /// Knows the connections.
    pub hub: Hub,
    /// Knows the queue of writes.
    pub appender: Appender,
    /// Knows who was refused.
    pub ingest: Arc<Ingest>,
}

/// Draws a name for this process.
#[must_use]
pub fn draw_name() -> String {
    Uuid::new_v4().simple().to_string()[..12].to_owned()
}

impl Cluster {
    /// This process, called `node`.
    #[must_use]
    pub fn new(node: String, hub: Hub, store: Store, broker: Broker) -> Self {
        let shared = Shared {
            node,
            started_at: Timestamp::from_system_time(SystemTime::now()),
            started: Instant::now(),
            hub,
            store,
            broker,
            address: OnceLock::new(),
            asked: Mutex::default(),
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
        self.shared.broker.bus().map(crate::live::broker::Bus::is_up)
    }
}
