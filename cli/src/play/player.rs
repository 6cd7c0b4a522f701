//! Playing a recording: each step at the time it came, by a clock that may run faster and be stopped.

use callscope_common::Timestamp;
use callscope_common::protocol::ServerMessage;
use tokio::time::{Duration, Instant, sleep};

use super::{LineContent, SavedLine, SavedTail};
use crate::clock;
use crate::speed::Speed;
use crate::stream::{Gap, Incoming, Place, Update};

/// Longest silence that is waited for, in the recording's seconds; the rest of a longer one is left out.
const MAX_WAIT_SECS: f64 = 60.0;

/// A recording being played.
pub struct Player {
    lines: std::iter::Peekable<std::vec::IntoIter<SavedLine>>,
    speed: Speed,
    clock: PlaybackClock,
    /// Since when there is no connection, by the recording's own clock.
    broke: Option<Timestamp>,
    calls: Vec<Progress>,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    start: Option<Timestamp>,
    place: Place,
}

/// The recording's time.
#[derive(Debug, Clone, Copy)]
struct PlaybackClock {
    /// The time it shows at `since`,
    shows: Timestamp,
    /// unless it is stopped: then it shows it always.
    since: Option<Instant>,
}

/// Something that came.
pub struct Played {
    /// The call's number.
    pub call: usize,
    /// What.
    pub update: Update,
    /// When the call began.
    pub start: Option<Timestamp>,
    /// How far it has come.
    pub place: Place,
}

impl Player {
    /// Before the first step.
    pub fn new(recording: SavedTail, speed: Speed, at: Instant) -> Self {
        let first = recording.lines.iter().find_map(spoken);
        let shows = first.unwrap_or_else(clock::now);
        let calls = vec![Progress::default(); recording.identifiers.len()];
        let clock = PlaybackClock { shows, since: Some(at) };
        Self { lines: recording.lines.into_iter().peekable(), speed, clock, broke: None, calls }
    }

    /// The recording's time.
    pub fn now(&self, at: Instant) -> Timestamp {
        let Some(since) = self.clock.since else { return self.clock.shows };
        let gone = at.saturating_duration_since(since).as_secs_f64() * self.speed.factor().unwrap_or(0.0);
        later(self.clock.shows, gone)
    }

    /// Whether it is held.
    pub fn is_paused(&self) -> bool {
        self.clock.since.is_none()
    }

    /// Holds it, or lets it go on.
    pub fn toggle_pause(&mut self, at: Instant) {
        let shows = self.now(at);
        self.clock = PlaybackClock { shows, since: if self.is_paused() { Some(at) } else { None } };
    }

    /// How long until the next step; `None` at the end, and while it is held.
    pub fn wait(&mut self, at: Instant) -> Option<Duration> {
        let due = self.due()?;
        let since = self.clock.since?;
        let Some(factor) = self.speed.factor() else { return Some(Duration::ZERO) };
        let wait = due.secs_since(self.clock.shows).clamp(0.0, MAX_WAIT_SECS) / factor;
        Some((since + Duration::from_secs_f64(wait)).saturating_duration_since(at))
    }

    /// The next step, when its time has come; `None` at the end. Loses nothing where it is dropped.
    pub async fn next(&mut self) -> Option<Played> {
        self.due()?;
        match self.wait(Instant::now()) {
            // Even the shortest sleep takes a millisecond.
            Some(Duration::ZERO) => {}
            Some(wait) => sleep(wait).await,
            None => std::future::pending().await,
        }
        self.advance(Instant::now())
    }

    /// The next step, where its time has come already.
    pub fn try_next(&mut self) -> Option<Played> {
        let at = Instant::now();
        if self.wait(at)?.is_zero() { self.advance(at) } else { None }
    }

    /// When the next step is due. What was said has the server's time, and what happened to the connection has the saving
    /// program's, which may be days later: of that only the length of a break counts.
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

    /// The next step, at `at`.
    fn advance(&mut self, at: Instant) -> Option<Played> {
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
        Some(Played { call, update, start: progress.start, place: progress.place })
    }
}

impl Progress {
    fn note(&mut self, update: &Update) {
        self.place.note(update);
        match update {
            Update::Message(Incoming { message: ServerMessage::Transcription(turn), .. }) => {
                self.start = self.start.or(Some(turn.timestamp));
            }
            Update::Gap(Gap::CursorInvalid { .. } | Gap::Merged { .. }) => self.start = None,
            _ => {}
        }
    }
}

/// When something was said, by the server's clock.
fn spoken(step: &SavedLine) -> Option<Timestamp> {
    match step.content {
        LineContent::Message(_) => step.at,
        LineContent::Client(_) => None,
    }
}

fn later(at: Timestamp, secs: f64) -> Timestamp {
    #[allow(clippy::cast_possible_truncation)]
    Timestamp::from_micros(at.as_micros().saturating_add((secs * 1e6) as i64)).unwrap_or(at)
}

#[cfg(test)]
#[path = "player_tests.rs"]
mod tests;
