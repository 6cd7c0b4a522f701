//! Signals that end the program.

mod hangup;

use std::time::Duration;

use tokio::signal::unix::{self, SignalKind};

use crate::exit::{Exit, Failure, Result};

pub(crate) use hangup::{is_ignored as is_hangup_ignored, note as note_hangup};

/// Signals that follow each other within this time count as one request to end.
const SAME_REQUEST_GAP: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// `SIGINT`, as Ctrl-C sends it.
    Interrupt,
    /// `SIGTERM`, or `SIGHUP` when the terminal is closed.
    Terminate,
}

/// Waits for SIGINT, SIGTERM and SIGHUP. A SIGHUP that `nohup` had ignored stays ignored.
pub(crate) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: Option<unix::Signal>,
}

impl Signals {
    /// Replaces the default action of the signals, which ends the program at once. A second request to end still exits
    /// at once, because the program may be blocked in a write to a pipe that no one reads.
    pub(crate) fn listen() -> Result<Self> {
        let mut repeated = Self::open()?;
        tokio::spawn(async move {
            repeated.next().await;
            // One request may send two signals: `timeout` signals its child, and then the process group of the child.
            while tokio::time::timeout(SAME_REQUEST_GAP, repeated.next()).await.is_ok() {}
            repeated.next().await;
            std::process::exit(i32::from(Exit::Interrupted as u8));
        });
        Self::open()
    }

    /// Replaces the default action of the signals, and never exits by itself: a full-screen view has to restore the
    /// terminal first.
    pub(crate) fn open() -> Result<Self> {
        let open =
            |kind| unix::signal(kind).map_err(|error| Failure::error(format!("cannot wait for signals: {error}")));
        Ok(Self {
            interrupt: open(SignalKind::interrupt())?,
            terminate: open(SignalKind::terminate())?,
            hangup: if is_hangup_ignored() { None } else { Some(open(SignalKind::hangup())?) },
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = recv_or_pending(&mut self.hangup) => Signal::Terminate,
        }
    }
}

/// Waits for the next signal. Never resolves if `signal` is `None`.
pub(crate) async fn recv_or_pending(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
