//! The calls that are followed in this process, each with its feeds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use callscope_common::{CallId, Seq};
use parking_lot::RwLock;
use uuid::Uuid;

use super::connection::Connection;
use super::feed::{Feed, FeedLimits, RunOutcome};
use super::log_tail::LogTail;

/// The call that only [probes](super::probe) follow. It is in no database, and it is neither listed nor counted.
pub const PROBE_CALL: CallId = CallId::nil();

/// Counters since the process began.
#[derive(Debug, Default)]
pub struct HubCounters {
    /// Events announced to followers, each counted once, however many follow.
    pub events: AtomicU64,
    /// Batches written straight into a socket, each counted once per follower.
    pub direct: AtomicU64,
    /// Batches left to a session, each counted once per follower.
    pub left: AtomicU64,
    /// Number of connections upgraded.
    pub connections: AtomicU64,
}

/// Every followed call, with its feeds. A call rarely has more than one.
#[derive(Debug)]
pub(super) struct FollowedCalls {
    feeds: RwLock<HashMap<CallId, Vec<Arc<Feed>>>>,
    limits: FeedLimits,
    /// Most feeds of one call: one for each worker.
    max_feeds: usize,
    next_worker: AtomicUsize,
    pub counters: HubCounters,
}

impl FollowedCalls {
    pub fn new(limits: FeedLimits, workers: usize) -> Self {
        Self {
            feeds: RwLock::default(),
            limits,
            max_feeds: workers,
            next_worker: AtomicUsize::new(0),
            counters: HubCounters::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.feeds.read().len()
    }

    /// The feeds of a call.
    pub fn feeds(&self, call_id: CallId) -> Vec<Arc<Feed>> {
        self.feeds.read().get(&call_id).cloned().unwrap_or_default()
    }

    /// The feed that writes `log_tail`; `None` once it has no followers.
    pub fn feed_of(&self, log_tail: &Arc<LogTail>) -> Option<Arc<Feed>> {
        let feeds = self.feeds.read();
        feeds.get(&log_tail.call_id)?.iter().find(|feed| Arc::ptr_eq(&feed.log_tail, log_tail)).cloned()
    }

    /// Every call with the lowest head of its feeds.
    pub fn heads(&self) -> Vec<(CallId, Seq)> {
        let head = |feeds: &[Arc<Feed>]| feeds.iter().map(|feed| feed.log_tail.head()).min().unwrap_or(0);
        self.list(head)
    }

    /// Every call with the connections that follow it.
    pub fn followers(&self) -> Vec<(CallId, Vec<Uuid>)> {
        self.list(|feeds| feeds.iter().flat_map(|feed| feed.followers()).collect())
    }

    fn list<T>(&self, describe: impl Fn(&[Arc<Feed>]) -> T) -> Vec<(CallId, T)> {
        let feeds = self.feeds.read();
        let listed = feeds.iter().filter(|(call_id, _)| **call_id != PROBE_CALL);
        listed.map(|(call_id, feeds)| (*call_id, describe(feeds))).collect()
    }

    /// Adds a follower to a call; returns the log tail of its feed and its member id there.
    pub fn join(&self, call_id: CallId, connection: &Arc<Connection>, subscription: u64) -> (Arc<LogTail>, usize) {
        loop {
            let feed = self.feed_with_room(call_id);
            // The map is not locked here: joining can wait for a feed that writes to many sockets, and publishers,
            // which need the map, must not wait for that.
            let member_id = feed.join(Arc::clone(connection), subscription);
            if self.feed_of(&feed.log_tail).is_some() {
                return (Arc::clone(&feed.log_tail), member_id);
            }
            // The feed was removed from the map just before it was joined.
            feed.leave(member_id);
        }
    }

    fn feed_with_room(&self, call_id: CallId) -> Arc<Feed> {
        let mut all = self.feeds.write();
        let feeds = all.entry(call_id).or_default();
        let emptiest = feeds.iter().min_by_key(|feed| feed.size());
        if let Some(feed) = emptiest
            && (feed.size() < self.limits.followers || feeds.len() >= self.max_feeds)
        {
            return Arc::clone(feed);
        }
        let next = || self.next_worker.fetch_add(1, Ordering::Relaxed);
        let worker = feeds.first().map_or_else(next, |first| first.worker + feeds.len());
        let feed = Arc::new(Feed::new(call_id, worker, self.limits));
        feeds.push(Arc::clone(&feed));
        feed
    }

    /// Removes a follower.
    pub fn leave(&self, log_tail: &Arc<LogTail>, member_id: usize) {
        if let Some(feed) = self.feed_of(log_tail)
            && feed.leave(member_id)
        {
            self.forget_if_unfollowed(&feed);
        }
    }

    /// Counts what a feed wrote, and removes the feed if it has no followers any more.
    pub fn record_run(&self, feed: &Arc<Feed>, outcome: &RunOutcome) {
        if feed.log_tail.call_id != PROBE_CALL {
            self.counters.direct.fetch_add(outcome.direct, Ordering::Relaxed);
            self.counters.left.fetch_add(outcome.left, Ordering::Relaxed);
        }
        if outcome.is_unfollowed {
            self.forget_if_unfollowed(feed);
        }
    }

    fn forget_if_unfollowed(&self, feed: &Arc<Feed>) {
        let mut all = self.feeds.write();
        let Some(feeds) = all.get_mut(&feed.log_tail.call_id) else { return };
        feeds.retain(|other| !Arc::ptr_eq(other, feed) || feed.size() > 0);
        if feeds.is_empty() {
            all.remove(&feed.log_tail.call_id);
        }
    }
}

#[cfg(test)]
mod tests;
