//! Access for tests that the program does not have.

use std::sync::mpsc::{SyncSender, sync_channel};

use super::*;

impl FollowedCalls {
    /// Holds the lock of the map, on a thread of its own, until the sender is dropped.
    pub fn hold_lock(self: Arc<Self>) -> SyncSender<()> {
        let (held, is_held) = sync_channel(1);
        let (release, released) = sync_channel(1);
        std::thread::spawn(move || {
            let _feeds = self.feeds.write();
            let _ = held.send(());
            let _ = released.recv();
        });
        let _ = is_held.recv();
        release
    }
}
