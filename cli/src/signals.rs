//! Signals that end the program.

mod hangup;

use std::time::Duration;

use tokio::signal::unix::{self, SignalKind};

use crate::exit::{Exit, Failure, Result};

pub(crate) use hangup::{is_ignored as is_hangup_ignored, note as note_hangup};

/// Signals closer together than this are one.
const TOGETHER: Duration = Duration::from_millis(300);

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// `SIGINT`, as Ctrl-C sends it.
    Interrupt,
    /// Someone ends the program, or its terminal is gone.
    Terminate,
}

/// Waits for SIGINT, SIGTERM and SIGHUP; not for a SIGHUP that came in ignored, as `nohup` wants it.
pub(crate) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: Option<unix::Signal>,
}

impl Signals {
    /// Takes the signals over from their default, which would end the program at once. A second one ends it all the
    /// same, since the first may find the program stuck in a write to a pipe that no one reads.
    pub(crate) fn listen() -> Result<Self> {
        let mut impatient = Self::open()?;
        tokio::spawn(async move {
            impatient.next().await;
            // One request may come twice: `timeout` signals its child, and then the group that the child is in.
            while tokio::time::timeout(TOGETHER, impatient.next()).await.is_ok() {}
            impatient.next().await;
            std::process::exit(i32::from(Exit::Interrupted as u8));
        });
        Self::open()
    }

    /// Takes the signals over, without a way out for those stuck: for a screen that has to be restored.
    pub(crate) fn open() -> Result<Self> {
        let open =
            |kind| unix::signal(kind).map_err(|error| Failure::error(format!("cannot wait for signals: {error}")));
        Ok(Self {
            interrupt: open(SignalKind::interrupt())?,
            terminate: open(SignalKind::terminate())?,
            hangup: if is_hangup_ignored() { None } else { Some(open(SignalKind::hangup())?) },
        })
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = next_of(&mut self.hangup) => Signal::Terminate,
        }
    }
}

/// The next signal of a kind that is waited for; never, where it is not.
pub(crate) async fn next_of(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
