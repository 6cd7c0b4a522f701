//! Plays a saved tail: each line at its time, by a clock that may run faster and may be paused.

use callscope_common::Timestamp;
use tokio::time::{Duration, Instant, sleep};

use super::{LineContent, SavedLine, SavedTail};
use crate::clock;
use crate::speed::Speed;
use crate::stream::{CallUpdates, Progress, Update};

/// Longest silence, in seconds of the recording. The rest of a longer silence is skipped.
const MAX_WAIT_SECS: f64 = 60.0;

pub(crate) struct Player {
    lines: std::iter::Peekable<std::vec::IntoIter<SavedLine>>,
    speed: Speed,
    clock: PlaybackClock,
    /// Since when the connection is broken, by the clock of the program that saved the tail.
    broke: Option<Timestamp>,
    calls: Vec<Progress>,
}

/// The clock of the recording.
#[derive(Debug, Clone, Copy)]
struct PlaybackClock {
    /// The time that it shows at `since`.
    shows: Timestamp,
    /// `None` while it is paused.
    since: Option<Instant>,
}

impl Player {
    /// Starts before the first line, at the time `at` of the real clock.
    pub(crate) fn new(recording: SavedTail, speed: Speed, at: Instant) -> Self {
        let first = recording.lines.iter().find_map(spoken);
        let shows = first.unwrap_or_else(clock::now);
        let calls = vec![Progress::default(); recording.identifiers.len()];
        let clock = PlaybackClock { shows, since: Some(at) };
        Self { lines: recording.lines.into_iter().peekable(), speed, clock, broke: None, calls }
    }

    /// Returns the time of the recording.
    pub(crate) fn now(&self, at: Instant) -> Timestamp {
        let Some(since) = self.clock.since else { return self.clock.shows };
        let gone = at.saturating_duration_since(since).as_secs_f64() * self.speed.factor().unwrap_or(0.0);
        later(self.clock.shows, gone)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.clock.since.is_none()
    }

    /// Pauses or continues.
    pub(crate) fn toggle_pause(&mut self, at: Instant) {
        let shows = self.now(at);
        self.clock = PlaybackClock { shows, since: if self.is_paused() { Some(at) } else { None } };
    }

    /// Returns how long to wait for the next line; `None` at the end, and while it is paused.
    pub(crate) fn wait(&mut self, at: Instant) -> Option<Duration> {
        let due = self.due()?;
        let since = self.clock.since?;
        let Some(factor) = self.speed.factor() else { return Some(Duration::ZERO) };
        let wait = due.secs_since(self.clock.shows).clamp(0.0, MAX_WAIT_SECS) / factor;
        Some((since + Duration::from_secs_f64(wait)).saturating_duration_since(at))
    }

    /// Waits until the next line is due and returns its update; `None` at the end. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<CallUpdates> {
        self.due()?;
        match self.wait(Instant::now()) {
            // Even the shortest sleep would take a millisecond.
            Some(Duration::ZERO) => {}
            Some(wait) => sleep(wait).await,
            None => std::future::pending().await,
        }
        self.advance(Instant::now())
    }

    /// Returns the next update if it is due.
    pub(crate) fn try_next(&mut self) -> Option<CallUpdates> {
        let at = Instant::now();
        if self.wait(at)?.is_zero() { self.advance(at) } else { None }
    }

    /// Returns when the next line is due. Turns have the server's time. Lines about the connection have the time of the
    /// program that saved the tail, which may be days later, so only the duration of a break counts.
    fn due(&mut self) -> Option<Timestamp> {
        let (shows, broke) = (self.clock.shows, self.broke);
        let step = self.lines.peek()?;
        let resumed =
            matches!(&step.content, LineContent::Client(update) if matches!(**update, Update::Resumed { .. }));
        Some(match (broke, step.at) {
            (Some(broke), Some(at)) if resumed => later(shows, at.secs_since(broke).max(0.0)),
            _ => spoken(step).unwrap_or(shows),
        })
    }

    /// Takes the next line and sets the clock to its time.
    fn advance(&mut self, at: Instant) -> Option<CallUpdates> {
        let due = self.due()?;
        let SavedLine { call, content, at: written } = self.lines.next()?;
        let update = content.into_update();
        self.clock = PlaybackClock { shows: self.now(at).max(due), since: self.clock.since.map(|_| at) };
        match &update {
            Update::Reconnecting { .. } => self.broke = self.broke.or(written),
            Update::Resumed { .. } => self.broke = None,
            _ => {}
        }
        let progress = &mut self.calls[call];
        progress.note(&update);
        Some(CallUpdates { call, updates: vec![update], progress: *progress })
    }
}

/// Returns when a turn was spoken, by the server's clock.
fn spoken(step: &SavedLine) -> Option<Timestamp> {
    match step.content {
        LineContent::Message(_) => step.at,
        LineContent::Client(_) => None,
    }
}

fn later(at: Timestamp, secs: f64) -> Timestamp {
    Timestamp::from_micros(at.as_micros().saturating_add((secs * 1e6) as i64)).unwrap_or(at)
}

#[cfg(test)]
#[path = "player_tests.rs"]
mod tests;
