//! Wakes the connections that follow deliveries after each commit. Their sessions read the deliveries themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::connection::Connection;

/// Counts commits, each of which may have stored deliveries. While no connection watches, a commit costs two atomic
/// operations.
#[derive(Debug, Default)]
pub(super) struct DeliveryWatchers {
    commits: AtomicU64,
    is_watched: AtomicBool,
    watchers: Mutex<Vec<Arc<Connection>>>,
}

impl DeliveryWatchers {
    /// Records a commit and wakes the watchers.
    pub fn notify(&self) {
        self.commits.fetch_add(1, Ordering::SeqCst);
        if self.is_watched.load(Ordering::SeqCst) {
            self.watchers.lock().iter().for_each(|watcher| watcher.wake());
        }
    }

    /// The number of commits so far. A watcher reads the deliveries when it has changed.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }

    /// Wakes a connection after each commit from now on.
    pub fn add(&self, connection: &Arc<Connection>) {
        self.update(|watchers| {
            if !watchers.iter().any(|watcher| Arc::ptr_eq(watcher, connection)) {
                watchers.push(Arc::clone(connection));
            }
        });
    }

    pub fn remove(&self, connection: &Arc<Connection>) {
        self.update(|watchers| watchers.retain(|watcher| !Arc::ptr_eq(watcher, connection)));
    }

    fn update(&self, update: impl FnOnce(&mut Vec<Arc<Connection>>)) {
        let mut watchers = self.watchers.lock();
        update(&mut watchers);
        self.is_watched.store(!watchers.is_empty(), Ordering::SeqCst);
    }
}
