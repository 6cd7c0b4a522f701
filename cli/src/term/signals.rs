//! Signals to a full-screen program: those that end it, stop it and continue it.

use std::time::Duration;

use rustix::process::{self, Signal};
use tokio::signal::unix::{self, SignalKind};

use crate::exit::{Exit, Failure, Result};
use crate::signals::{is_hangup_ignored, recv_or_pending};

/// Signals closer together than this count as one request: `timeout` signals its child and then the child's group.
const SIGNAL_DEBOUNCE: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScreenSignal {
    /// The program has to end, or its terminal is gone.
    End,
    /// The program has to stop until SIGCONT.
    Stop,
    /// The program was stopped and continues.
    Continued,
}

/// Handles the signals whose default action would end or stop the process with the terminal still in raw mode.
pub(crate) struct ScreenSignals {
    ends: EndSignals,
    stop: unix::Signal,
    continued: unix::Signal,
}

impl ScreenSignals {
    /// Starts to listen. A second request to end ends the process even while a write to the terminal blocks.
    pub(crate) fn listen() -> Result<Self> {
        let mut repeated = EndSignals::open()?;
        tokio::spawn(async move {
            repeated.next().await;
            while tokio::time::timeout(SIGNAL_DEBOUNCE, repeated.next()).await.is_ok() {}
            repeated.next().await;
            let _ = crossterm::terminal::disable_raw_mode();
            std::process::exit(i32::from(Exit::Interrupted as u8));
        });
        Ok(Self { ends: EndSignals::open()?, stop: open(Signal::TSTP)?, continued: open(Signal::CONT)? })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> ScreenSignal {
        tokio::select! {
            () = self.ends.next() => ScreenSignal::End,
            _ = self.stop.recv() => ScreenSignal::Stop,
            _ = self.continued.recv() => ScreenSignal::Continued,
        }
    }
}

/// SIGINT, SIGTERM and SIGQUIT, and SIGHUP unless the parent process had it ignored.
struct EndSignals([unix::Signal; 3], Option<unix::Signal>);

impl EndSignals {
    fn open() -> Result<Self> {
        let hangup = if is_hangup_ignored() { None } else { Some(open(Signal::HUP)?) };
        Ok(Self([open(Signal::INT)?, open(Signal::TERM)?, open(Signal::QUIT)?], hangup))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, quit] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = quit.recv() => {}
            () = recv_or_pending(&mut self.1) => {}
        }
    }
}

fn open(signal: Signal) -> Result<unix::Signal> {
    unix::signal(SignalKind::from_raw(signal.as_raw()))
        .map_err(|error| Failure::error(format!("cannot wait for signals: {error}")))
}

/// Returns whether a shell can continue this process: the process runs in its own process group, as jobs do, and not in
/// that of the session leader. A program that a terminal runs instead of a shell would stop forever.
pub(crate) fn has_job_control() -> bool {
    process::getsid(None).is_ok_and(|session| session != process::getpgrp())
}

/// Stops the process group of this process, as Ctrl-Z does. It may return before the process stops.
pub(crate) fn suspend() {
    // SIGTSTP is handled here, so sending it would have no effect.
    let _ = process::kill_current_process_group(Signal::STOP);
}
