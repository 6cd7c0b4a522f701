//! Signals to a program that has the whole screen: those that end it, stop it and let it go on.

use std::time::Duration;

use rustix::process::{self, Signal};
use tokio::signal::unix::{self, SignalKind};

use crate::exit::{Exit, Failure, Result};
use crate::signals::{is_hangup_ignored, next_of};

/// Signals closer together than this are one.
const SAME_REQUEST: Duration = Duration::from_millis(300);

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScreenSignal {
    /// The program is to end, or its terminal is gone.
    End,
    /// It is to stop until it is woken.
    Stop,
    /// It was stopped, and goes on.
    Continued,
}

/// Takes the signals over from their default, which would leave the terminal as it is.
pub struct ScreenSignals {
    ends: EndSignals,
    stop: unix::Signal,
    continued: unix::Signal,
}

impl ScreenSignals {
    /// Begins to listen. A second request to end ends the process even where it is stuck in a write to its terminal.
    pub fn listen() -> Result<Self> {
        let mut repeated = EndSignals::open()?;
        tokio::spawn(async move {
            repeated.next().await;
            while tokio::time::timeout(SAME_REQUEST, repeated.next()).await.is_ok() {}
            repeated.next().await;
            let _ = crossterm::terminal::disable_raw_mode();
            std::process::exit(i32::from(Exit::Interrupted as u8));
        });
        Ok(Self { ends: EndSignals::open()?, stop: open(Signal::TSTP)?, continued: open(Signal::CONT)? })
    }

    /// The next signal.
    pub async fn next(&mut self) -> ScreenSignal {
        tokio::select! {
            () = self.ends.next() => ScreenSignal::End,
            _ = self.stop.recv() => ScreenSignal::Stop,
            _ = self.continued.recv() => ScreenSignal::Continued,
        }
    }
}

/// SIGINT, SIGTERM and SIGQUIT, and SIGHUP unless it came in ignored.
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
            () = next_of(&mut self.1) => {}
        }
    }
}

fn open(signal: Signal) -> Result<unix::Signal> {
    unix::signal(SignalKind::from_raw(signal.as_raw()))
        .map_err(|error| Failure::error(format!("cannot wait for signals: {error}")))
}

/// Whether a shell is there to wake this process again: then it runs in a process group of its own, as jobs do, and not in
/// that of its session's leader. A program that a terminal runs in place of a shell would stop for good.
pub fn has_job_control() -> bool {
    process::getsid(None).is_ok_and(|session| session != process::getpgrp())
}

/// Stops this process and those it was started together with, as Ctrl-Z does elsewhere. May return before it takes effect.
pub fn suspend() {
    // SIGTSTP is taken over, so it would change nothing.
    let _ = process::kill_current_process_group(Signal::STOP);
}
