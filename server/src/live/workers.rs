//! Threads that run the feeds, so that writing to followers delays no request and wakes no task of the runtime.
//!
//! Each feed belongs to one worker: a thread with a queue of the feeds that have messages, which it runs one after the
//! other. A call with many followers has a feed at each worker. A feed that has more messages after a run goes to the
//! end of the queue, so that a busy call delays another one by one run at most.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task;

use super::feed::Feed;
use super::followed_calls::FollowedCalls;

/// More threads than this only get in each other's way.
const MAX_WORKERS: usize = 8;

/// The workers of a hub.
#[derive(Debug)]
pub(super) struct Workers(Vec<Arc<Worker>>);

/// A queue of feeds that have messages. Each feed is in it once at most.
#[derive(Debug, Default)]
struct Worker {
    feeds: Mutex<VecDeque<Arc<Feed>>>,
    is_stopped: AtomicBool,
    wakeup: Notify,
}

impl Workers {
    /// How many workers suit this machine: one for each core.
    pub fn suitable_count() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS)
    }

    pub fn new(count: usize) -> Self {
        Self((0..count).map(|_| Arc::default()).collect())
    }

    /// Returns the loop of each worker, which ends when the workers are stopped.
    pub fn loops(&self, calls: &Arc<FollowedCalls>) -> impl Iterator<Item = impl Future<Output = ()> + Send + use<>> {
        // Unconstrained, because a task that has used up Tokio's cooperative budget sees writable sockets as full.
        self.0.iter().map(|worker| task::unconstrained(Arc::clone(worker).run(Arc::clone(calls))))
    }

    /// Starts a thread for each worker. The threads write to sockets of `runtime`.
    ///
    /// # Errors
    /// Returns an error if the system has no thread left. Threads that were started end when the workers are stopped.
    pub fn start_threads(&self, calls: &Arc<FollowedCalls>, runtime: &Handle) -> io::Result<()> {
        for worker in self.loops(calls) {
            let runtime = runtime.clone();
            std::thread::Builder::new().name("callscope-feeds".into()).spawn(move || runtime.block_on(worker))?;
        }
        Ok(())
    }

    /// Queues a feed at its worker; never blocks. The caller must not schedule a feed that is scheduled already.
    pub fn schedule(&self, feed: Arc<Feed>) {
        self.0[feed.worker % self.0.len()].push(feed);
    }

    /// Makes each worker end after the run that is under way.
    pub fn stop(&self) {
        for worker in &self.0 {
            worker.is_stopped.store(true, Ordering::SeqCst);
            worker.wakeup.notify_one();
        }
    }
}

impl Worker {
    fn push(&self, feed: Arc<Feed>) {
        let was_empty = {
            let mut feeds = self.feeds.lock();
            feeds.push_back(feed);
            feeds.len() == 1
        };
        if was_empty {
            self.wakeup.notify_one();
        }
    }

    async fn run(self: Arc<Self>, calls: Arc<FollowedCalls>) {
        while !self.is_stopped.load(Ordering::SeqCst) {
            let next = self.feeds.lock().pop_front();
            let Some(feed) = next else {
                self.wakeup.notified().await;
                continue;
            };
            let outcome = feed.run_once().await;
            calls.record_run(&feed, &outcome);
            if outcome.has_more {
                self.feeds.lock().push_back(feed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use callscope_common::claims::Role;
    use callscope_common::event::EventKind;
    use callscope_common::{CallId, Seq};
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::time::timeout;
    use uuid::Uuid;

    use super::*;
    use crate::auth::Identity;
    use crate::live::Hub;
    use crate::live::connection::{Connection, Subscription};
    use crate::live::feed::FeedLimits;
    use crate::live::frame::text_frame;
    use crate::log::Notification;

    /// Adds a caught-up follower of a call; returns the pipe that its frames come out of.
    fn follow(hub: &Hub, call_id: CallId, capacity: usize) -> DuplexStream {
        let (near, pipe) = duplex(capacity);
        let now = crate::clock::now();
        let identity = Identity { username: "test".into(), uid: None, role: Role::Viewer, calls: None, expires: now };
        let connection = Arc::new(Connection::new(identity, None, now, near.into()));
        let (log_tail, feed_member_id) = hub.join(call_id, &connection, 0);
        connection.state.lock().subscriptions.push(Subscription {
            id: 0,
            log_tail,
            feed_member_id,
            names: Vec::new(),
            call_sid: String::new(),
            cursor: 0,
            confirmed_head: 0,
            caught_up: true,
            end_reason: None,
        });
        pipe
    }

    fn event(call_id: CallId, seq: Seq) -> Notification {
        let events = vec![(EventKind::Transcription, format!("{seq:08}").into())];
        Notification::EventsAppended { call_id, first: seq, events }
    }

    /// The events are announced one by one while the threads run, so many arrive in the middle of a feed's run.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_follower_of_every_call_gets_all_its_events_in_order() {
        let hub = Hub::start(&Handle::current(), FeedLimits::default()).expect("threads");
        let calls: Vec<CallId> = (0..5).map(|_| Uuid::new_v4()).collect();
        let mut pipes: Vec<DuplexStream> =
            calls.iter().flat_map(|call_id| (0..7).map(|_| follow(&hub, *call_id, 1 << 16))).collect();
        // In groups that fit into an inbox: there are no sessions here that would read the rest from the database.
        for first in (1..2_000).step_by(16) {
            for seq in first..first + 16 {
                hub.publish(calls.iter().map(|call_id| event(*call_id, seq)).collect());
            }
            let frames: Vec<u8> =
                (first..first + 16).flat_map(|seq| text_frame(&format!("{seq:08}")).to_vec()).collect();
            for pipe in &mut pipes {
                let mut received = vec![0; frames.len()];
                let read = timeout(Duration::from_secs(10), pipe.read_exact(&mut received)).await;
                read.expect("announced events are written in time").expect("a pipe");
                assert!(received == frames, "frames are missing, doubled or out of order");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_threads_end_with_the_hub() {
        let hub = Hub::start(&Handle::current(), FeedLimits::default()).expect("threads");
        let workers: Vec<_> = hub.workers().0.iter().map(Arc::downgrade).collect();
        drop(hub);
        while workers.iter().any(|worker| worker.strong_count() > 0) {
            task::yield_now().await;
        }
    }
}
