//! What is followed in this process, and every connection: the connection registry.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use callscope_common::protocol::CloseReason;
use callscope_common::{CallId, Identifier, Seq};
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::connection::{Connection, DrainNotice, EndReason};
use super::delivery_watchers::DeliveryWatchers;
use super::feed::{EventFrame, Feed, FeedMessage};
use super::frame::text_frame;
use super::probe;
use super::workers::{RoundRobin, Workers};
use crate::log::Notification;
use crate::policy::DrainPolicy;

/// Clients are not quite punctual: told to leave a quarter slower than the rate, they do not arrive faster even where some are late.
const SLACK: f64 = 1.25;

/// Followers of one feed. A call with more has further feeds, as many as there are workers to run them side by side. So many are
/// written to in a few milliseconds; with fewer a core, a write costs more than it gains. (In tests a few, so that a call has
/// several soon.)
const FOLLOWERS_PER_FEED: usize = if cfg!(test) { 2 } else { 2048 };

/// A followed call: its feeds, each with followers of its own. Rarely more than one.
type Followed = Vec<Arc<Feed>>;

/// Handle to the registry; cheap to clone.
///
/// Lock order: feeds, then a feed's members, then a connection's wire. No lock is held across an `.await`.
#[derive(Clone, Debug)]
pub struct Hub {
    pub(super) registry: Arc<Registry>,
}

#[derive(Debug)]
pub(super) struct Registry {
    connections: Mutex<HashMap<Uuid, Arc<Connection>>>,
    feeds: RwLock<HashMap<CallId, Followed>>,
    pub(super) workers: Workers,
    next_worker: RoundRobin,
    waiting: Mutex<HashMap<Identifier, Vec<Arc<Connection>>>>,
    draining: AtomicBool,
    counters: HubCounters,
    delivery_watchers: DeliveryWatchers,
}

/// Since the process began.
#[derive(Debug, Default)]
pub struct HubCounters {
    /// Events announced to followers, each counted once however many follow.
    pub events: AtomicU64,
    /// Passes written straight into a socket.
    pub direct: AtomicU64,
    /// Passes left to a session.
    pub left: AtomicU64,
    /// Connections upgraded.
    pub connections: AtomicU64,
}

/// A hub without threads of its own: feeds run as tasks.
impl Default for Hub {
    fn default() -> Self {
        Self { registry: Arc::new(Registry::new(Workers::Tasks)) }
    }
}

impl Registry {
    fn new(workers: Workers) -> Self {
        Self {
            connections: Mutex::default(),
            feeds: RwLock::default(),
            workers,
            next_worker: RoundRobin::default(),
            waiting: Mutex::default(),
            draining: AtomicBool::default(),
            counters: HubCounters::default(),
            delivery_watchers: DeliveryWatchers::default(),
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.workers.end();
    }
}

impl Hub {
    /// A hub whose feeds run on threads of their own, for connections of `runtime`.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(runtime: &Handle) -> io::Result<Self> {
        let mut failed = Ok(());
        let registry = Arc::new_cyclic(|registry| {
            Registry::new(Workers::start(registry, runtime).unwrap_or_else(|error| {
                failed = Err(error);
                Workers::Tasks
            }))
        });
        failed.map(|()| Self { registry })
    }

    pub(super) fn of(registry: &Weak<Registry>) -> Option<Self> {
        registry.upgrade().map(|registry| Self { registry })
    }

    pub(super) fn schedule(&self, feed: &Arc<Feed>) {
        self.registry.workers.schedule(self, Arc::clone(feed));
    }

    /// Counters since the process began.
    #[must_use]
    pub fn counters(&self) -> &HubCounters {
        &self.registry.counters
    }

    pub(super) fn count(&self, direct: u64, left: u64) {
        self.registry.counters.direct.fetch_add(direct, Ordering::Relaxed);
        self.registry.counters.left.fetch_add(left, Ordering::Relaxed);
    }

    pub(super) fn add(&self, connection: Arc<Connection>) {
        self.registry.counters.connections.fetch_add(1, Ordering::Relaxed);
        self.registry.connections.lock().insert(connection.connection_id, connection);
    }

    pub(super) fn remove(&self, connection_id: Uuid) {
        self.registry.connections.lock().remove(&connection_id);
    }

    /// Every connection, oldest first.
    #[must_use]
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        let mut all: Vec<_> = self.registry.connections.lock().values().cloned().collect();
        all.sort_by_key(|connection| (connection.connected_at, connection.connection_id));
        all
    }

    /// How many connections, followed calls and identifiers waited for there are.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize, usize) {
        let connections = self.registry.connections.lock().len();
        (connections, self.registry.feeds.read().len(), self.registry.waiting.lock().len())
    }

    /// Ends a connection; says whether there was one.
    #[must_use]
    pub fn kick(&self, connection_id: Uuid) -> bool {
        let connection = self.registry.connections.lock().get(&connection_id).cloned();
        connection.inspect(|connection| connection.close(CloseReason::Kicked)).is_some()
    }

    /// Every followed call, and how far its log reaches for all its followers.
    #[must_use]
    pub fn heads(&self) -> Vec<(CallId, Seq)> {
        let feeds = self.registry.feeds.read();
        let followed = feeds.iter().filter(|(call_id, _)| **call_id != probe::CALL);
        followed.map(|(call_id, feeds)| (*call_id, feeds.iter().map(|feed| feed.head()).min().unwrap_or(0))).collect()
    }

    /// Every followed call, and the connections that follow it.
    #[must_use]
    pub fn followers(&self) -> Vec<(CallId, Vec<Uuid>)> {
        let feeds = self.registry.feeds.read();
        let followed = feeds.iter().filter(|(call_id, _)| **call_id != probe::CALL);
        followed.map(|(call_id, feeds)| (*call_id, feeds.iter().flat_map(|feed| feed.followers()).collect())).collect()
    }

    /// Every identifier waited for.
    #[must_use]
    pub fn awaited_identifiers(&self) -> Vec<Identifier> {
        self.registry.waiting.lock().keys().cloned().collect()
    }

    /// Adds a follower to a call; returns the call's feed and the follower's place in it.
    pub(super) fn join(&self, call_id: CallId, connection: &Arc<Connection>, subscription: u64) -> (Arc<Feed>, usize) {
        loop {
            let feed = self.feed_with_room(call_id);
            // Not under the registry's lock: a feed that is writing to many sockets is waited for here, and nobody who
            // announces must wait with us.
            let member = feed.join(Arc::clone(connection), subscription);
            if self.feeds(call_id).iter().any(|listed| Arc::ptr_eq(listed, &feed)) {
                return (feed, member);
            }
            // It was forgotten just before it was joined.
            feed.leave(member);
        }
    }

    fn feed_with_room(&self, call_id: CallId) -> Arc<Feed> {
        let mut all = self.registry.feeds.write();
        let feeds = all.entry(call_id).or_default();
        let emptiest = feeds.iter().min_by_key(|feed| feed.size());
        if let Some(feed) = emptiest
            && (feed.size() < FOLLOWERS_PER_FEED || feeds.len() >= self.registry.workers.count())
        {
            return Arc::clone(feed);
        }
        let worker = feeds.first().map_or_else(|| self.registry.next_worker.next(), |first| first.worker + feeds.len());
        let feed = Arc::new(Feed::new(call_id, worker));
        feeds.push(Arc::clone(&feed));
        feed
    }

    pub(super) fn leave(&self, feed: &Arc<Feed>, member: usize) {
        if feed.leave(member) {
            self.forget_if_unfollowed(feed);
        }
    }

    pub(super) fn forget_if_unfollowed(&self, feed: &Arc<Feed>) {
        let mut all = self.registry.feeds.write();
        let Some(feeds) = all.get_mut(&feed.call_id) else { return };
        feeds.retain(|other| !Arc::ptr_eq(other, feed) || feed.size() > 0);
        if feeds.is_empty() {
            all.remove(&feed.call_id);
        }
    }

    pub(super) fn add_waiter(&self, identifier: &Identifier, connection: &Arc<Connection>) {
        self.registry.waiting.lock().entry(identifier.clone()).or_default().push(Arc::clone(connection));
    }

    pub(super) fn remove_waiter(&self, identifier: &Identifier, connection: &Arc<Connection>) {
        let mut waiting = self.registry.waiting.lock();
        if let Some(waiters) = waiting.get_mut(identifier) {
            waiters.retain(|waiter| !Arc::ptr_eq(waiter, connection));
            if waiters.is_empty() {
                waiting.remove(identifier);
            }
        }
    }

    /// Tells the followers in this process. Never blocks.
    pub fn publish(&self, notifications: Vec<Notification>) {
        for notification in notifications {
            match notification {
                Notification::EventsAppended { call_id, first, events } => self.enqueue(call_id, || {
                    if call_id != probe::CALL {
                        self.registry.counters.events.fetch_add(events.len() as u64, Ordering::Relaxed);
                    }
                    let frame =
                        |(seq, (kind, text)): (Seq, (_, Arc<str>))| EventFrame { seq, kind, frame: text_frame(&text) };
                    (first..).zip(events).map(frame).map(FeedMessage::Event).collect()
                }),
                Notification::HeadMoved { call_id, head, ended } => {
                    for feed in self.feeds(call_id) {
                        self.advance_head(&feed, head, ended);
                    }
                }
                Notification::PartialTurn { call_id, frame } => {
                    self.enqueue(call_id, || vec![FeedMessage::Partial(text_frame(&frame))])
                }
                Notification::IdentifierAssigned { identifier } => self.call_appeared(&identifier),
                Notification::Merged { from, into } => self.end(from, EndReason::Merged(into)),
                Notification::Deleted { call_id } => self.end(call_id, EndReason::Deleted),
            }
        }
        self.registry.delivery_watchers.notify();
    }

    /// What those who follow deliveries go by.
    pub(super) fn delivery_watchers(&self) -> &DeliveryWatchers {
        &self.registry.delivery_watchers
    }

    /// Tells all feeds of a call, if it has any.
    fn enqueue(&self, call_id: CallId, items: impl FnOnce() -> Vec<FeedMessage>) {
        let feeds = self.feeds(call_id);
        let Some((last, others)) = feeds.split_last() else { return };
        let items = items();
        for feed in others {
            feed.enqueue(self, items.iter().cloned());
        }
        last.enqueue(self, items);
    }

    /// Tells a call's followers how far its log reaches.
    pub fn advance_head(&self, feed: &Arc<Feed>, head: Seq, ended: bool) {
        if head > feed.head() || (ended && !feed.ended()) {
            feed.enqueue(self, [FeedMessage::Head(head, ended)]);
        }
    }

    /// Tells whoever waits for `identifier` that it names a call.
    pub fn call_appeared(&self, identifier: &Identifier) {
        let waiters = self.registry.waiting.lock().remove(identifier).unwrap_or_default();
        for waiter in waiters {
            waiter.call_appeared(identifier.clone());
        }
    }

    /// Tells a call's followers what became of it.
    pub fn end(&self, call_id: CallId, reason: EndReason) {
        self.enqueue(call_id, || vec![FeedMessage::End(reason)]);
    }

    /// Holds the registry's lock, from a thread of its own, until the sender is dropped.
    #[cfg(test)]
    pub(crate) fn stick(self) -> std::sync::mpsc::SyncSender<()> {
        let (held, is_held) = std::sync::mpsc::sync_channel(1);
        let (release, released) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let _feeds = self.registry.feeds.write();
            let _ = held.send(());
            let _ = released.recv();
        });
        let _ = is_held.recv();
        release
    }

    fn feeds(&self, call_id: CallId) -> Followed {
        self.registry.feeds.read().get(&call_id).cloned().unwrap_or_default()
    }

    /// Whether the server is about to go away.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.registry.draining.load(Ordering::SeqCst)
    }

    /// Refuses new connections from now on, and tells every connection when to leave, at the drain's rate.
    pub fn drain(&self, drain: DrainPolicy) {
        self.registry.draining.store(true, Ordering::SeqCst);
        let now = Instant::now();
        for (at, connection) in self.connections().iter().enumerate() {
            let after = Duration::from_secs_f64(at as f64 * SLACK / drain.rate);
            connection
                .notify_drain(DrainNotice { after, until: now + (after + DrainNotice::GRACE).min(drain.deadline) });
        }
    }
}
