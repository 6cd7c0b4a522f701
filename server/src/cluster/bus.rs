//! This process's link to the other servers on its database.
//!
//! The process sends an echo to itself several times a second. While none comes back, the link is *down*. While the
//! link is down, or another live process is not heard, the notifications are not *complete*: then heads are compared
//! with the database more often ([`reconcile`](super::reconcile)). They are compared at once if another process reports
//! that it dropped notifications.
//!
//! - `link`: the connection to Redis: sending, receiving, reconnecting
//! - `health`: whether the link is up and every peer is heard

mod health;
mod link;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::message::{Body, Rpc};
use super::redis::{InvalidRedisUrl, address};
use super::seal::Seal;
use crate::live::Hub;
use crate::log::Notification;
use crate::secret::Secret;
pub use health::LinkHealth;
use link::{Link, Outgoing};

/// Batches of notifications that wait for Redis. Further ones are dropped: the other servers find their events in the
/// database.
const SEND_QUEUE: usize = 1_024;
/// Questions and replies that wait to be handled. Further ones are dropped, and the process that asked gets no reply.
pub const RPC_QUEUE: usize = 1_024;
/// Interval at which [`Bus::flush`] checks the queue.
const FLUSH_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Handle to the link; cheap to clone.
#[derive(Clone)]
pub struct Bus {
    link: Arc<Link>,
}

/// Counters since the process began.
#[derive(Debug, Default)]
pub struct BusCounters {
    /// Messages sent to Redis.
    pub published: AtomicU64,
    /// Notification messages received from other processes.
    pub received: AtomicU64,
    /// Received messages that were forged, altered, late or repeated.
    pub refused: AtomicU64,
    /// Messages that were not sent, because the link was down or its queue was full.
    pub dropped: AtomicU64,
}

/// A question or a reply of another process.
#[derive(Debug)]
pub struct Incoming {
    /// The process that sent it.
    pub from: String,
    /// The question or the reply.
    pub rpc: Rpc,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("node", &self.link.node).field("is_up", &self.is_up()).finish()
    }
}

impl Bus {
    /// Links this process, called `node`, to the processes that use the same `name` at the Redis of `url`. Their
    /// notifications go to `hub`, their questions and replies to `rpcs`. Messages of processes that know none of
    /// `secrets` are refused. Redis may be down: the task tries to connect until it is aborted.
    ///
    /// # Errors
    /// Returns an error if the URL cannot be read.
    pub fn start(
        url: &Secret,
        secrets: &[Secret],
        name: &str,
        node: &str,
        hub: Hub,
        rpcs: mpsc::Sender<Incoming>,
    ) -> Result<(Self, JoinHandle<()>), InvalidRedisUrl> {
        let address = address(url.expose())?;
        let (queue, outgoing) = mpsc::channel(SEND_QUEUE);
        let link = Arc::new(Link::new(node, Seal::new(secrets, name, node), hub, queue, rpcs));
        let task = tokio::spawn(link::run(Arc::clone(&link), address, name.to_owned(), outgoing));
        Ok((Self { link }, task))
    }

    /// Whether the echoes of this process come back in time.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.link.monitor.is_up()
    }

    /// Watches whether the notifications of other processes are complete.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<LinkHealth> {
        self.link.monitor.subscribe()
    }

    /// Sets the other processes that are alive according to the database, and so have to be heard on the link.
    pub fn set_expected_peers(&self, alive: Vec<String>) {
        self.link.monitor.set_expected_peers(alive);
    }

    /// Waits until the queue is empty or the link is down.
    pub async fn flush(&self) {
        while self.is_up() && self.link.queue.capacity() < SEND_QUEUE {
            sleep(FLUSH_CHECK_INTERVAL).await;
        }
    }

    /// Counters since the process began.
    #[must_use]
    pub fn counters(&self) -> &BusCounters {
        &self.link.counters
    }

    /// Queues notifications for the other processes. Never blocks; drops them if the link is down or the queue is full.
    pub(super) fn publish(&self, notifications: Vec<Notification>) {
        // A repeated delivery changes nothing, so it has no notifications.
        if !notifications.is_empty() {
            self.enqueue(Outgoing::Notifications(notifications));
        }
    }

    /// Queues a question or a reply, which all other processes receive. Never blocks; may drop it.
    pub fn send(&self, rpc: Rpc) {
        if let Ok(text) = serde_json::to_string(&Body::Rpc(rpc)) {
            self.enqueue(Outgoing::Text(text));
        }
    }

    fn enqueue(&self, outgoing: Outgoing) {
        if !self.is_up() || self.link.queue.try_send(outgoing).is_err() {
            self.link.record_dropped();
        }
    }
}

#[cfg(test)]
mod tests;
