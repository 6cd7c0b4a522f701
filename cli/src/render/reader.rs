//! Notices that no one reads the output any more, also while there is nothing to write.

use std::io::{self, IsTerminal as _};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::oneshot;

/// Watches stdout for a reader that went away, as in `callscope tail ID | head -1`. Without it the program would
/// stay until the call's next words.
pub(crate) struct Reader(Option<oneshot::Receiver<()>>);

impl Reader {
    /// Begins to watch.
    pub(crate) fn watch() -> Self {
        if io::stdout().is_terminal() {
            return Self(None);
        }
        let (gone, watched) = oneshot::channel();
        // A thread of its own, since it waits in poll(2) for as long as the program runs.
        let watching = thread::Builder::new().name("reader".into()).spawn(move || {
            let stdout = io::stdout();
            // Asking for nothing still reports errors, which is what a pipe without a reader has.
            let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
            while poll(&mut polled, None) == Err(rustix::io::Errno::INTR) {}
            if polled[0].revents().contains(PollFlags::ERR) {
                let _ = gone.send(());
            }
        });
        Self(watching.is_ok().then_some(watched))
    }

    /// Ends when the reader is gone.
    pub(crate) async fn gone(&mut self) {
        if let Some(watched) = &mut self.0
            && watched.await.is_ok()
        {
            return;
        }
        self.0 = None;
        std::future::pending().await
    }
}
