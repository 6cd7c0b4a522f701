//! Tells those who follow deliveries that something was committed. What it was they read themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::connection::Connection;

/// Counts announcements, each of which is a commit that deliveries may have come with. Costs two atomics while nobody follows.
#[derive(Debug, Default)]
pub(super) struct Commits {
    count: AtomicU64,
    is_followed: AtomicBool,
    followers: Mutex<Vec<Arc<Connection>>>,
}

impl Commits {
    /// Something was committed.
    pub fn tell(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.is_followed.load(Ordering::SeqCst) {
            self.followers.lock().iter().for_each(|follower| follower.wake());
        }
    }

    /// How many were told; whoever follows looks when it changes.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Has a connection woken after each from now on.
    pub fn follow(&self, connection: &Arc<Connection>) {
        self.change(|followers| {
            if !followers.iter().any(|follower| Arc::ptr_eq(follower, connection)) {
                followers.push(Arc::clone(connection));
            }
        });
    }

    pub fn unfollow(&self, connection: &Arc<Connection>) {
        self.change(|followers| followers.retain(|follower| !Arc::ptr_eq(follower, connection)));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Connection>>)) {
        let mut followers = self.followers.lock();
        change(&mut followers);
        self.is_followed.store(!followers.is_empty(), Ordering::SeqCst);
    }
}
