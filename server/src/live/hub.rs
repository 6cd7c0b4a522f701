//! The registry of a process: its connections, the calls they follow, and the identifiers they wait for.
//!
//! The hub passes on notifications and signals and never waits for a connection. It has no reference to a session: it
//! leaves signals in the [`Connection`], which bounds them (see [`connection`](super::connection)).

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use callscope_common::protocol::CloseReason;
use callscope_common::{CallId, Identifier, Seq};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::connection::{Connection, DrainNotice, EndReason};
use super::delivery_watchers::DeliveryWatchers;
use super::feed::{Feed, FeedLimits, FeedMessage};
use super::followed_calls::{FollowedCalls, HubCounters, PROBE_CALL};
use super::frame::{EventFrame, text_frame};
use super::log_tail::LogTail;
use super::workers::Workers;
use crate::log::Notification;
use crate::policy::DrainPolicy;

/// Clients are told to leave at the drain's rate divided by this. Some of them leave late, and without the margin they
/// would arrive elsewhere at more than the drain's rate.
const DRAIN_RATE_DIVISOR: f64 = 1.25;

/// Handle to the registry; cheap to clone.
///
/// Lock order: followed calls, then the members of a feed, then the state of a connection. No lock is held across an
/// `.await`.
#[derive(Clone, Debug)]
pub struct Hub {
    registry: Arc<Registry>,
}

#[derive(Debug)]
struct Registry {
    connections: Mutex<HashMap<Uuid, Arc<Connection>>>,
    calls: Arc<FollowedCalls>,
    workers: Workers,
    waiters: Mutex<HashMap<Identifier, Vec<Arc<Connection>>>>,
    is_draining: AtomicBool,
    delivery_watchers: DeliveryWatchers,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.workers.stop();
    }
}

/// How much a hub holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct HubSizes {
    /// Number of open connections.
    pub connections: usize,
    /// Calls with at least one follower.
    pub followed_calls: usize,
    /// Identifiers without a call that a connection waits for.
    pub awaited_identifiers: usize,
}

impl Hub {
    /// Starts a hub whose feeds run on threads of their own, for connections of `runtime`. The threads end with the
    /// hub.
    ///
    /// # Errors
    /// Returns an error if the system has no thread left.
    pub fn start(runtime: &Handle, limits: FeedLimits) -> io::Result<Self> {
        let hub = Self::new(limits, Workers::suitable_count());
        hub.registry.workers.start_threads(&hub.registry.calls, runtime)?;
        Ok(hub)
    }

    fn new(limits: FeedLimits, workers: usize) -> Self {
        let registry = Registry {
            connections: Mutex::default(),
            calls: Arc::new(FollowedCalls::new(limits, workers)),
            workers: Workers::new(workers),
            waiters: Mutex::default(),
            is_draining: AtomicBool::default(),
            delivery_watchers: DeliveryWatchers::default(),
        };
        Self { registry: Arc::new(registry) }
    }

    /// Counters since the process began.
    #[must_use]
    pub fn counters(&self) -> &HubCounters {
        &self.registry.calls.counters
    }

    pub(super) fn add(&self, connection: Arc<Connection>) {
        self.counters().connections.fetch_add(1, Ordering::Relaxed);
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

    /// How many connections, followed calls and awaited identifiers there are.
    #[must_use]
    pub fn sizes(&self) -> HubSizes {
        HubSizes {
            connections: self.registry.connections.lock().len(),
            followed_calls: self.registry.calls.len(),
            awaited_identifiers: self.registry.waiters.lock().len(),
        }
    }

    /// Closes a connection; returns whether there was one.
    #[must_use]
    pub fn kick(&self, connection_id: Uuid) -> bool {
        let connection = self.registry.connections.lock().get(&connection_id).cloned();
        connection.inspect(|connection| connection.close(CloseReason::Kicked)).is_some()
    }

    /// Every followed call with its head, as this process knows it.
    #[must_use]
    pub fn heads(&self) -> Vec<(CallId, Seq)> {
        self.registry.calls.heads()
    }

    /// Every followed call with the connections that follow it.
    #[must_use]
    pub fn followers(&self) -> Vec<(CallId, Vec<Uuid>)> {
        self.registry.calls.followers()
    }

    /// Every identifier that a connection waits for.
    #[must_use]
    pub fn awaited_identifiers(&self) -> Vec<Identifier> {
        self.registry.waiters.lock().keys().cloned().collect()
    }

    /// Adds a follower to a call; returns the log tail of its feed and its member id there.
    pub(super) fn join(
        &self,
        call_id: CallId,
        connection: &Arc<Connection>,
        subscription: u64,
    ) -> (Arc<LogTail>, usize) {
        self.registry.calls.join(call_id, connection, subscription)
    }

    pub(super) fn leave(&self, log_tail: &Arc<LogTail>, member_id: usize) {
        self.registry.calls.leave(log_tail, member_id);
    }

    pub(super) fn add_waiter(&self, identifier: &Identifier, connection: &Arc<Connection>) {
        self.registry.waiters.lock().entry(identifier.clone()).or_default().push(Arc::clone(connection));
    }

    pub(super) fn remove_waiter(&self, identifier: &Identifier, connection: &Arc<Connection>) {
        let mut waiters = self.registry.waiters.lock();
        if let Some(connections) = waiters.get_mut(identifier) {
            connections.retain(|waiter| !Arc::ptr_eq(waiter, connection));
            if connections.is_empty() {
                waiters.remove(identifier);
            }
        }
    }

    /// Passes notifications on to the followers in this process. Never blocks.
    pub fn publish(&self, notifications: Vec<Notification>) {
        for notification in notifications {
            match notification {
                Notification::EventsAppended { call_id, first, events } => self.enqueue(call_id, || {
                    if call_id != PROBE_CALL {
                        self.counters().events.fetch_add(events.len() as u64, Ordering::Relaxed);
                    }
                    let frame =
                        |(seq, (kind, text)): (Seq, (_, Arc<str>))| EventFrame { seq, kind, frame: text_frame(&text) };
                    (first..).zip(events).map(frame).map(FeedMessage::Event).collect()
                }),
                Notification::HeadMoved { call_id, head, ended } => {
                    for feed in self.registry.calls.feeds(call_id) {
                        if is_new_head(&feed.log_tail, head, ended) {
                            self.enqueue_in(feed, [FeedMessage::Head(head, ended)]);
                        }
                    }
                }
                Notification::PartialTurn { call_id, frame } => {
                    self.enqueue(call_id, || vec![FeedMessage::Partial(text_frame(&frame))])
                }
                Notification::IdentifierAssigned { identifier } => self.call_appeared(&identifier),
                Notification::Merged { from, into } => self.end_subscriptions(from, EndReason::Merged(into)),
                Notification::Deleted { call_id } => self.end_subscriptions(call_id, EndReason::Deleted),
            }
        }
        self.registry.delivery_watchers.notify();
    }

    pub(super) fn delivery_watchers(&self) -> &DeliveryWatchers {
        &self.registry.delivery_watchers
    }

    /// Queues messages in all feeds of a call. They are made only if the call is followed.
    fn enqueue(&self, call_id: CallId, messages: impl FnOnce() -> Vec<FeedMessage>) {
        let mut feeds = self.registry.calls.feeds(call_id);
        let Some(last) = feeds.pop() else { return };
        let messages = messages();
        for feed in feeds {
            self.enqueue_in(feed, messages.iter().cloned());
        }
        self.enqueue_in(last, messages);
    }

    fn enqueue_in(&self, feed: Arc<Feed>, messages: impl IntoIterator<Item = FeedMessage>) {
        if feed.enqueue(messages) {
            self.registry.workers.schedule(feed);
        }
    }

    /// Tells the feed that writes `log_tail` how far the log reaches.
    pub(super) fn advance_head(&self, log_tail: &Arc<LogTail>, head: Seq, ended: bool) {
        if is_new_head(log_tail, head, ended)
            && let Some(feed) = self.registry.calls.feed_of(log_tail)
        {
            self.enqueue_in(feed, [FeedMessage::Head(head, ended)]);
        }
    }

    /// Signals the connections that wait for `identifier` that it leads to a call now.
    pub(super) fn call_appeared(&self, identifier: &Identifier) {
        let waiters = self.registry.waiters.lock().remove(identifier).unwrap_or_default();
        for waiter in waiters {
            waiter.notify_appeared(identifier.clone());
        }
    }

    /// Ends the subscriptions to a call that was merged or deleted.
    pub(super) fn end_subscriptions(&self, call_id: CallId, reason: EndReason) {
        self.enqueue(call_id, || vec![FeedMessage::End(reason)]);
    }

    /// Whether the server is shutting down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.registry.is_draining.load(Ordering::SeqCst)
    }

    /// Refuses new connections from now on, and tells each connection when to leave: one after the other, at the
    /// drain's rate.
    pub fn drain(&self, drain: DrainPolicy) {
        self.registry.is_draining.store(true, Ordering::SeqCst);
        let now = Instant::now();
        for (at, connection) in self.connections().iter().enumerate() {
            let leave_after = Duration::from_secs_f64(at as f64 * DRAIN_RATE_DIVISOR / drain.rate);
            let close_at = now + (leave_after + DrainNotice::TIME_TO_LEAVE).min(drain.deadline);
            connection.notify_drain(DrainNotice { leave_after, close_at });
        }
    }
}

fn is_new_head(log_tail: &LogTail, head: Seq, ended: bool) -> bool {
    head > log_tail.head() || (ended && !log_tail.is_ended())
}

#[cfg(test)]
pub(crate) mod tests;
