//! Signals that end the program.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::signal::unix::{self, SignalKind};

use crate::exit::{Exit, Failure, Result};

/// Signals closer together than this are one.
const TOGETHER: Duration = Duration::from_millis(300);

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// Someone ends the program, or its terminal is gone.
    Terminate,
}

/// Waits for SIGINT, SIGTERM and SIGHUP.
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    /// `None` where it came in ignored, as under `nohup`: there it stays ignored.
    hangup: Option<unix::Signal>,
}

/// Whether this process was started with SIGHUP ignored. To listen for it would end that, so this is asked first.
pub fn ignores_hangup() -> bool {
    static IGNORED: OnceLock<bool> = OnceLock::new();
    *IGNORED.get_or_init(|| {
        // There is no safe call that asks for it, and only Linux has this file; elsewhere SIGHUP ends the program.
        std::fs::read_to_string("/proc/self/status").is_ok_and(|status| is_first_ignored(&status))
    })
}

/// Whether the first signal, which is SIGHUP, is among those that a `/proc/PID/status` says are ignored.
fn is_first_ignored(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// The next of a signal that may not be listened for; never, where it is not.
pub async fn received(signal: Option<&mut unix::Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

impl Signals {
    /// Takes the signals over from their default, which would end the program at once. A second one ends it all the same,
    /// since the first may find the program stuck in a write to a pipe that nobody reads.
    pub fn listen() -> Result<Self> {
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
    pub fn open() -> Result<Self> {
        let open =
            |kind| unix::signal(kind).map_err(|error| Failure::error(format!("cannot wait for signals: {error}")));
        Ok(Self {
            interrupt: open(SignalKind::interrupt())?,
            terminate: open(SignalKind::terminate())?,
            hangup: if ignores_hangup() { None } else { Some(open(SignalKind::hangup())?) },
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            () = received(self.hangup.as_mut()) => Signal::Terminate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sighup_is_the_first_bit_of_the_mask() {
        let status =
            |mask| format!("Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\nSigCgt:\t0000000000000001\n");
        assert!(is_first_ignored(&status("0000000000001001")));
        assert!(!is_first_ignored(&status("0000000000001000")));
        assert!(!is_first_ignored("Name:\tx\n") && !is_first_ignored(&status("?")));
    }
}
