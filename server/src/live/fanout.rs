//! Who runs the feeds: threads of their own, so that what is written to followers keeps no request waiting and no task of the
//! runtime is woken for it.
//!
//! A feed belongs to one lane, a queue of feeds that have something to do and the thread that takes them in turn. A call with
//! many followers has a feed on each lane ([`Hub::join`](super::Hub)). A feed that has more to do after a round goes to the
//! end of its lane's queue, so that a busy call keeps no other one waiting for longer than a round.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rocket::tokio::runtime::Handle;
use rocket::tokio::sync::Notify;
use rocket::tokio::task;

use super::feed::Feed;
use super::hub::{Hub, Shared};

/// More threads than this only get in each other's way.
const MOST_LANES: usize = 8;
/// Lanes of a hub without threads.
const LANES_OF_TASKS: usize = 2;

/// The lanes of a hub.
#[derive(Debug)]
pub(super) enum Fanout {
    /// Each round is a task of the runtime that the feed is told something on.
    Tasks,
    /// A thread for each lane.
    Threads(Vec<Arc<Lane>>),
}

/// A queue of feeds that have something to do. It holds each feed once at most, so it is as long as the list of feeds at most.
#[derive(Debug, Default)]
pub(super) struct Lane {
    feeds: Mutex<VecDeque<Arc<Feed>>>,
    is_over: AtomicBool,
    called: Notify,
}

/// Gives each new feed the next lane.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicUsize);

impl Turn {
    pub fn next(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl Fanout {
    /// Starts a thread for each core; they end with the hub. The sockets they write to are those of `runtime`.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(hub: &Weak<Shared>, runtime: &Handle) -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_LANES);
        let lanes: Vec<Arc<Lane>> = (0..count).map(|_| Arc::default()).collect();
        let fanout = Self::Threads(lanes.clone());
        for lane in lanes {
            let (hub, runtime) = (Weak::clone(hub), runtime.clone());
            let started = std::thread::Builder::new()
                .name("callscope-feeds".into())
                // Unconstrained: the runtime's budget would make writable sockets look full.
                .spawn(move || runtime.block_on(task::unconstrained(lane.run(&hub))));
            if let Err(error) = started {
                fanout.end();
                return Err(error);
            }
        }
        Ok(fanout)
    }

    /// How many feeds of one call can be at work at the same time.
    pub fn lanes(&self) -> usize {
        match self {
            Self::Tasks => LANES_OF_TASKS,
            Self::Threads(lanes) => lanes.len(),
        }
    }

    /// Has a feed's next round run. Never blocks. The caller sees to it that no feed is scheduled twice.
    pub fn schedule(&self, hub: &Hub, feed: Arc<Feed>) {
        match self {
            Self::Tasks => {
                let hub = hub.clone();
                task::spawn(task::unconstrained(async move {
                    while feed.round(&hub).await {
                        task::yield_now().await;
                    }
                }));
            }
            Self::Threads(lanes) => lanes[feed.lane % lanes.len()].push(feed),
        }
    }

    /// Lets the threads end.
    pub fn end(&self) {
        if let Self::Threads(lanes) = self {
            for lane in lanes {
                lane.is_over.store(true, Ordering::SeqCst);
                lane.called.notify_one();
            }
        }
    }
}

impl Lane {
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

    async fn run(self: Arc<Self>, hub: &Weak<Shared>) {
        while !self.is_over.load(Ordering::SeqCst) {
            let next = self.feeds.lock().pop_front();
            let Some(feed) = next else {
                self.called.notified().await;
                continue;
            };
            let Some(hub) = Hub::of(hub) else { return };
            if feed.round(&hub).await {
                self.feeds.lock().push_back(feed);
            }
        }
    }
}
