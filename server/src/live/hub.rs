//! What is followed in this process, and every connection: the connection registry.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use callscope_common::protocol::CloseReason;
use callscope_common::{CallId, Identifier, Seq};
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use super::feed::{Announced, Feed, Item};
use super::frame::text_frame;
use super::probe;
use super::wire::{Connection, Fate, Leave};
use crate::shutdown::Drain;
use crate::store::ledger::Wake;

/// Clients are not quite punctual: told to leave a quarter slower than the rate, they do not arrive faster even where some are late.
const SLACK: f64 = 1.25;

/// Handle to the registry; cheap to clone.
///
/// Lock order: feeds, then a feed's members, then a connection's wire. No lock is held across an `.await`.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    connections: Mutex<HashMap<Uuid, Arc<Connection>>>,
    feeds: RwLock<HashMap<CallId, Arc<Feed>>>,
    waiting: Mutex<HashMap<Identifier, Vec<Arc<Connection>>>>,
    draining: AtomicBool,
    counters: Counters,
}

/// Since the process began.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events broadcast, each counted once however many follow.
    pub events: AtomicU64,
    /// Passes written straight into a socket.
    pub direct: AtomicU64,
    /// Passes left to a session.
    pub left: AtomicU64,
    /// Connections upgraded.
    pub connections: AtomicU64,
}

impl Hub {
    /// Counters since the process began.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    pub(super) fn count(&self, events: u64, direct: u64, left: u64) {
        self.shared.counters.events.fetch_add(events, Ordering::Relaxed);
        self.shared.counters.direct.fetch_add(direct, Ordering::Relaxed);
        self.shared.counters.left.fetch_add(left, Ordering::Relaxed);
    }

    pub(super) fn add(&self, connection: Arc<Connection>) {
        self.shared.counters.connections.fetch_add(1, Ordering::Relaxed);
        self.shared.connections.lock().insert(connection.connection_id, connection);
    }

    pub(super) fn remove(&self, connection_id: Uuid) {
        self.shared.connections.lock().remove(&connection_id);
    }

    /// Every connection, oldest first.
    #[must_use]
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        let mut all: Vec<_> = self.shared.connections.lock().values().cloned().collect();
        all.sort_by_key(|connection| (connection.connected_at, connection.connection_id));
        all
    }

    /// How many connections, followed calls and identifiers waited for there are.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize, usize) {
        let connections = self.shared.connections.lock().len();
        (connections, self.shared.feeds.read().len(), self.shared.waiting.lock().len())
    }

    /// Ends a connection; says whether there was one.
    #[must_use]
    pub fn kick(&self, connection_id: Uuid) -> bool {
        let connection = self.shared.connections.lock().get(&connection_id).cloned();
        connection.inspect(|connection| connection.close(CloseReason::Kicked)).is_some()
    }

    /// Every followed call.
    #[must_use]
    pub fn feeds(&self) -> Vec<Arc<Feed>> {
        self.shared.feeds.read().values().filter(|feed| feed.call_id != probe::CALL).cloned().collect()
    }

    /// Every identifier waited for.
    #[must_use]
    pub fn waited_for(&self) -> Vec<Identifier> {
        self.shared.waiting.lock().keys().cloned().collect()
    }

    /// Adds a follower to a call; returns the call's feed and the follower's place in it.
    pub(super) fn join(&self, call_id: CallId, connection: &Arc<Connection>, subscription: u64) -> (Arc<Feed>, usize) {
        let mut feeds = self.shared.feeds.write();
        let feed = feeds.entry(call_id).or_insert_with(|| Arc::new(Feed::new(call_id)));
        let member = feed.join(Arc::clone(connection), subscription);
        (Arc::clone(feed), member)
    }

    pub(super) fn leave(&self, feed: &Arc<Feed>, member: usize) {
        if feed.leave(member) {
            self.forget_if_unfollowed(feed.call_id);
        }
    }

    pub(super) fn forget_if_unfollowed(&self, call_id: CallId) {
        let mut feeds = self.shared.feeds.write();
        if feeds.get(&call_id).is_some_and(|feed| !feed.is_followed()) {
            feeds.remove(&call_id);
        }
    }

    pub(super) fn wait_for(&self, identifier: &Identifier, connection: &Arc<Connection>) {
        self.shared.waiting.lock().entry(identifier.clone()).or_default().push(Arc::clone(connection));
    }

    pub(super) fn wait_no_more(&self, identifier: &Identifier, connection: &Arc<Connection>) {
        let mut waiting = self.shared.waiting.lock();
        if let Some(waiters) = waiting.get_mut(identifier) {
            waiters.retain(|waiter| !Arc::ptr_eq(waiter, connection));
            if waiters.is_empty() {
                waiting.remove(identifier);
            }
        }
    }

    /// Tells the followers in this process. Never blocks.
    pub fn announce(&self, wakes: Vec<Wake>) {
        for wake in wakes {
            match wake {
                Wake::Events { call_id, first, events } => {
                    let Some(feed) = self.feed(call_id) else { continue };
                    let items = (first..)
                        .zip(events)
                        .map(|(seq, (kind, text))| Item::Event(Announced { seq, kind, frame: text_frame(&text) }));
                    feed.tell(self, items);
                }
                Wake::Head { call_id, head, ended } => {
                    if let Some(feed) = self.feed(call_id) {
                        self.raise(&feed, head, ended);
                    }
                }
                Wake::Partial { call_id, frame } => {
                    if let Some(feed) = self.feed(call_id) {
                        feed.tell(self, [Item::Partial(text_frame(&frame))]);
                    }
                }
                Wake::Named { identifier } => self.name(&identifier),
                Wake::Merged { from, into } => self.meet(from, Fate::Merged(into)),
                Wake::Deleted { call_id } => self.meet(call_id, Fate::Deleted),
            }
        }
    }

    /// Tells a call's followers how far its log reaches.
    pub fn raise(&self, feed: &Arc<Feed>, head: Seq, ended: bool) {
        if head > feed.head() || (ended && !feed.ended()) {
            feed.tell(self, [Item::Head(head, ended)]);
        }
    }

    /// Tells whoever waits for `identifier` that it names a call.
    pub fn name(&self, identifier: &Identifier) {
        let waiters = self.shared.waiting.lock().remove(identifier).unwrap_or_default();
        for waiter in waiters {
            waiter.named(identifier.clone());
        }
    }

    /// Tells a call's followers what became of it.
    pub fn meet(&self, call_id: CallId, fate: Fate) {
        if let Some(feed) = self.feed(call_id) {
            feed.tell(self, [Item::Fate(fate)]);
        }
    }

    /// Holds the registry's lock, from a thread of its own, until the sender is dropped.
    #[cfg(test)]
    pub(crate) fn stick(self) -> std::sync::mpsc::SyncSender<()> {
        let (held, is_held) = std::sync::mpsc::sync_channel(1);
        let (release, released) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let _feeds = self.shared.feeds.write();
            let _ = held.send(());
            let _ = released.recv();
        });
        let _ = is_held.recv();
        release
    }

    fn feed(&self, call_id: CallId) -> Option<Arc<Feed>> {
        self.shared.feeds.read().get(&call_id).cloned()
    }

    /// Whether the server is about to go away.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::SeqCst)
    }

    /// Refuses new connections from now on, and tells every connection when to leave, at the drain's rate.
    pub fn drain(&self, drain: Drain) {
        self.shared.draining.store(true, Ordering::SeqCst);
        let now = Instant::now();
        for (at, connection) in self.connections().iter().enumerate() {
            let after = Duration::from_secs_f64(at as f64 * SLACK / drain.rate);
            connection.leave(Leave { after, until: now + (after + Leave::GRACE).min(drain.deadline) });
        }
    }
}
