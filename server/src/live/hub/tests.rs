//! Hubs for tests.

use std::sync::mpsc::SyncSender;

use super::*;

/// A third follower makes a second feed, a slice is one socket, and an inbox is soon full.
pub(crate) const TINY: FeedLimits = FeedLimits { followers: 2, sockets_per_slice: 1, inbox_messages: 32 };

impl Hub {
    /// A hub whose workers are two tasks of the current runtime instead of threads.
    pub(crate) fn on_tasks() -> Self {
        let hub = Self::new(TINY, 2);
        for worker in hub.registry.workers.loops(&hub.registry.calls) {
            tokio::spawn(worker);
        }
        hub
    }

    pub(in crate::live) fn workers(&self) -> &Workers {
        &self.registry.workers
    }

    /// Holds the lock of the followed calls until the sender is dropped.
    pub(crate) fn hold_lock(&self) -> SyncSender<()> {
        Arc::clone(&self.registry.calls).hold_lock()
    }
}
