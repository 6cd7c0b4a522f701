//! Who runs the feeds: threads of their own, so that what is written to followers keeps no request waiting and no task of the
//! runtime is woken for it.
//!
//! A feed belongs to one worker, a queue of feeds that have something to do and the thread that takes them in turn. A call with
//! many followers has a feed on each worker ([`Hub::join`](super::Hub)). A feed that has more to do after a round goes to the
//! end of its worker's queue, so that a busy call keeps no other one waiting for longer than a round.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task;

use super::feed::Feed;
use super::hub::{Hub, Registry};

/// More threads than this only get in each other's way.
const MAX_WORKERS: usize = 8;
/// Lanes of a hub without threads.
const WORKERS_OF_TASKS: usize = 2;

/// The workers of a hub.
#[derive(Debug)]
pub(super) enum Workers {
    /// Each round is a task of the runtime that the feed is told something on.
    Tasks,
    /// A thread for each worker.
    Threads(Vec<Arc<Worker>>),
}

/// A queue of feeds that have something to do. It holds each feed once at most, so it is as long as the list of feeds at most.
#[derive(Debug, Default)]
pub(super) struct Worker {
    feeds: Mutex<VecDeque<Arc<Feed>>>,
    is_over: AtomicBool,
    called: Notify,
}

/// Gives each new feed the next worker.
#[derive(Debug, Default)]
pub(super) struct RoundRobin(AtomicUsize);

impl RoundRobin {
    pub fn next(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl Workers {
    /// Starts a thread for each core; they end with the hub. The sockets they write to are those of `runtime`.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(hub: &Weak<Registry>, runtime: &Handle) -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
        let workers: Vec<Arc<Worker>> = (0..count).map(|_| Arc::default()).collect();
        let started = Self::Threads(workers.clone());
        for worker in workers {
            let (hub, runtime) = (Weak::clone(hub), runtime.clone());
            let spawned = std::thread::Builder::new()
                .name("callscope-feeds".into())
                // Unconstrained: the runtime's budget would make writable sockets look full.
                .spawn(move || runtime.block_on(task::unconstrained(worker.run(&hub))));
            if let Err(error) = spawned {
                started.end();
                return Err(error);
            }
        }
        Ok(started)
    }

    /// How many feeds of one call can be at work at the same time.
    pub fn count(&self) -> usize {
        match self {
            Self::Tasks => WORKERS_OF_TASKS,
            Self::Threads(workers) => workers.len(),
        }
    }

    /// Has a feed's next round run. Never blocks. The caller sees to it that no feed is scheduled twice.
    pub fn schedule(&self, hub: &Hub, feed: Arc<Feed>) {
        match self {
            Self::Tasks => {
                let hub = hub.clone();
                task::spawn(task::unconstrained(async move {
                    while feed.run_once(&hub).await {
                        task::yield_now().await;
                    }
                }));
            }
            Self::Threads(workers) => workers[feed.worker % workers.len()].push(feed),
        }
    }

    /// Lets the threads end.
    pub fn end(&self) {
        if let Self::Threads(workers) = self {
            for worker in workers {
                worker.is_over.store(true, Ordering::SeqCst);
                worker.called.notify_one();
            }
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
            self.called.notify_one();
        }
    }

    async fn run(self: Arc<Self>, hub: &Weak<Registry>) {
        while !self.is_over.load(Ordering::SeqCst) {
            let next = self.feeds.lock().pop_front();
            let Some(feed) = next else {
                self.called.notified().await;
                continue;
            };
            let Some(hub) = Hub::of(hub) else { return };
            if feed.run_once(&hub).await {
                self.feeds.lock().push_back(feed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use callscope_common::event::EventKind;
    use callscope_common::{CallId, Seq};
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::time::timeout;
    use uuid::Uuid;

    use super::*;
    use crate::auth::{Identity, Role};
    use crate::live::connection::{Connection, Subscription};
    use crate::live::frame::text_frame;
    use crate::log::Notification;

    /// A connection that follows a call and is owed nothing; its frames come out of the pipe.
    fn follow(hub: &Hub, call_id: CallId, room: usize) -> DuplexStream {
        let (near, pipe) = duplex(room);
        let now = crate::clock::now();
        let identity = Identity { username: "test".into(), uid: None, role: Role::Viewer, calls: None, expires: now };
        let connection = Arc::new(Connection::new(identity, None, now, near.into()));
        let (feed, member) = hub.join(call_id, &connection, 0);
        connection.wire.lock().subscriptions.push(Subscription {
            id: 0,
            feed,
            member,
            names: Vec::new(),
            call_sid: String::new(),
            cursor: 0,
            confirmed: 0,
            caught_up: true,
            end_reason: None,
        });
        pipe
    }

    fn event(call_id: CallId, seq: Seq) -> Notification {
        let events = vec![(EventKind::Transcription, format!("{seq:08}").into())];
        Notification::EventsAppended { call_id, first: seq, events }
    }

    /// Announcements come one by one while the threads are at work, so many of them in the middle of a feed's round.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_follower_of_every_call_gets_all_in_order_from_the_threads() {
        let hub = Hub::start(&Handle::current()).expect("threads");
        let calls: Vec<CallId> = (0..5).map(|_| Uuid::new_v4()).collect();
        let mut pipes: Vec<DuplexStream> =
            calls.iter().flat_map(|call_id| (0..7).map(|_| follow(&hub, *call_id, 1 << 16))).collect();
        // Never more at once than a feed's inbox takes: there are no sessions here to read what it leaves out.
        for first in (1..2_000).step_by(16) {
            for seq in first..first + 16 {
                hub.publish(calls.iter().map(|call_id| event(*call_id, seq)).collect());
            }
            let frames: Vec<u8> =
                (first..first + 16).flat_map(|seq| text_frame(&format!("{seq:08}")).to_vec()).collect();
            for pipe in &mut pipes {
                let mut heard = vec![0; frames.len()];
                let read = timeout(Duration::from_secs(10), pipe.read_exact(&mut heard)).await;
                read.expect("what was announced is worked on").expect("a pipe");
                assert!(heard == frames, "frames are missing, doubled or out of order");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_threads_end_with_the_hub() {
        let hub = Hub::start(&Handle::current()).expect("threads");
        let Workers::Threads(workers) = &hub.registry.workers else { panic!("a hub with threads") };
        let workers: Vec<_> = workers.iter().map(Arc::downgrade).collect();
        drop(hub);
        while workers.iter().any(|worker| worker.strong_count() > 0) {
            task::yield_now().await;
        }
    }
}
