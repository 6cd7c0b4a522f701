//! Detects that the reader of stdout closed its pipe, even while the program has nothing to write.

use std::io::{self, IsTerminal as _};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::oneshot;

/// Watches the pipe on stdout, as in `callscope tail ID | head -1`. Without this watch the program would notice a
/// closed pipe only at its next write.
pub(crate) struct StdoutReader(Option<oneshot::Receiver<()>>);

impl StdoutReader {
    /// Starts to watch stdout, unless it is a terminal.
    pub(crate) fn watch() -> Self {
        if io::stdout().is_terminal() {
            return Self(None);
        }
        let (closed, watched) = oneshot::channel();
        // poll(2) blocks for as long as the program runs, so it has a thread of its own.
        let watching = thread::Builder::new().name("reader".into()).spawn(move || {
            let stdout = io::stdout();
            // poll(2) reports errors even if no event is requested, and a pipe without a reader is in error.
            let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
            while poll(&mut polled, None) == Err(rustix::io::Errno::INTR) {}
            if polled[0].revents().contains(PollFlags::ERR) {
                let _ = closed.send(());
            }
        });
        Self(watching.is_ok().then_some(watched))
    }

    /// Resolves when the reader has closed its pipe. Never resolves if stdout is not watched.
    pub(crate) async fn closed(&mut self) {
        if let Some(watched) = &mut self.0
            && watched.await.is_ok()
        {
            return;
        }
        // The watching thread ended without an error on the pipe.
        self.0 = None;
        std::future::pending().await
    }
}
