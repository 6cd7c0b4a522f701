//! A followed call: how its connection stands, what is known of it, and its transcript.

use callscope_common::api::CallView;
use callscope_common::protocol::ServerMessage;
use callscope_common::{CallStatus, Timestamp};

use super::entry::{Entry, EntryKind, Tone};
use super::event_entries;
use super::transcript::Transcript;
use crate::stream::{EndReason, Ending, Gap, Place, Update};
use crate::tail::{describe_gap, describe_resume};

/// A followed call.
#[derive(Debug)]
pub struct CallTab {
    /// Which stream it shows.
    pub call: usize,
    /// As the user named it.
    pub identifier: String,
    /// Its other names, as far as known.
    names: Vec<String>,
    /// How its connection stands.
    pub connection: ConnectionState,
    /// How far its stream has come.
    pub place: Place,
    /// Its status as last heard.
    pub status: Option<CallStatus>,
    /// The provider's verdict.
    pub successful: Option<bool>,
    /// The provider's agent.
    pub agent: Option<String>,
    /// When it began.
    pub start: Option<Timestamp>,
    /// How long it took, once it ended.
    pub duration: Option<f64>,
    /// What was said and what happened.
    pub transcript: Transcript,
    /// What is being read from the server again.
    pub reload: ReloadState,
    /// When the newest turn was spoken.
    last_turn: Option<Timestamp>,
    /// Since when there is no connection, and the entry that says so.
    broke: Option<(Timestamp, usize, String)>,
    /// Since when nothing was heard of a connection that should have brought a sign of life.
    quiet: Option<Timestamp>,
}

/// What is being read from the server again.
#[derive(Debug, Default)]
pub struct ReloadState {
    /// How often the transcript began anew; what was asked for before that is of no use.
    pub generation: u32,
    /// What comes into sight is being read.
    pub loading: bool,
    /// It could not be read; the next key tries it again.
    pub failed: bool,
    /// How many searches are under way.
    pub scans: u32,
}

/// How a call's connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionState {
    /// Not connected yet.
    Connecting,
    /// Connected, and the call is not known yet.
    Waiting,
    /// Connected and subscribed.
    Live,
    /// Broken; the next try comes at `at`.
    Retry {
        /// Which try.
        attempt: u32,
        /// When.
        at: Timestamp,
    },
    /// All of it has come.
    Ended,
    /// Broken off for good.
    Stopped,
}

impl CallTab {
    /// Before anything came.
    pub fn new(call: usize, identifier: String) -> Self {
        Self {
            call,
            identifier,
            names: Vec::new(),
            connection: ConnectionState::Connecting,
            place: Place::default(),
            status: None,
            successful: None,
            agent: None,
            start: None,
            duration: None,
            transcript: Transcript::new(),
            reload: ReloadState::default(),
            last_turn: None,
            broke: None,
            quiet: None,
        }
    }

    /// The connection's state in words, and whether that is good.
    pub fn state(&self, now: Timestamp) -> (String, Tone) {
        #[allow(clippy::cast_possible_truncation)]
        let whole = |secs: f64| secs.max(0.0) as i64;
        match (&self.connection, self.quiet) {
            (ConnectionState::Connecting, _) => ("CONNECTING".into(), Tone::Warn),
            (ConnectionState::Waiting, None) => ("WAITING".into(), Tone::Warn),
            (ConnectionState::Live | ConnectionState::Waiting, Some(since)) => {
                (format!("STALE {}s", whole(now.secs_since(since))), Tone::Warn)
            }
            (ConnectionState::Live, None) => ("LIVE".into(), Tone::Good),
            (ConnectionState::Retry { attempt, at }, _) => {
                (format!("RETRY {attempt} in {}s", whole(at.secs_since(now).ceil())), Tone::Warn)
            }
            (ConnectionState::Ended, _) => self.ended(),
            (ConnectionState::Stopped, _) => ("STOPPED".into(), Tone::Bad),
        }
    }

    fn ended(&self) -> (String, Tone) {
        match (self.status, self.successful) {
            (Some(CallStatus::Completed), Some(true)) => ("ENDED success".into(), Tone::Good),
            (Some(CallStatus::Completed), Some(false)) => ("ENDED failure".into(), Tone::Bad),
            (Some(CallStatus::Failed), _) => ("ENDED failed".into(), Tone::Bad),
            (Some(status), _) => (format!("ENDED {status}"), Tone::Plain),
            (None, _) => ("ENDED".into(), Tone::Plain),
        }
    }

    /// Whether that is a name of this call.
    pub fn is_named(&self, name: &str) -> bool {
        self.identifier == name || self.names.iter().any(|known| known == name)
    }

    /// Whether nothing more will come.
    pub fn is_over(&self) -> bool {
        matches!(self.connection, ConnectionState::Ended | ConnectionState::Stopped)
    }

    /// How long it has lasted, in seconds.
    pub fn lasted(&self, now: Timestamp) -> Option<f64> {
        if self.duration.is_some() {
            return self.duration;
        }
        let end = if self.is_over() { self.last_turn? } else { now };
        Some(end.secs_since(self.start?).max(0.0))
    }

    /// Takes in what the server's list says of it.
    pub fn describe(&mut self, view: &CallView) {
        self.agent.clone_from(&view.agent_id);
        self.names.clone_from(&view.identifiers);
        self.names.push(view.call_sid.clone());
    }

    /// Takes in what came of its stream; says whether its description should be asked for.
    pub fn live(&mut self, update: &Update, now: Timestamp) -> bool {
        match update {
            Update::Message(incoming) => {
                self.quiet = None;
                return self.message(&incoming.message, &incoming.raw);
            }
            Update::Ready(place) => self.linked(*place),
            Update::Quiet { secs } => self.quiet = Some(now.plus_secs(-i64::from(*secs))),
            Update::Heard => self.quiet = None,
            Update::Resumed { place, proven } => self.resumed(*place, *proven, now),
            Update::Reconnecting { attempt, delay, reason, broke } => {
                #[allow(clippy::cast_possible_truncation)]
                let at = Timestamp::from_micros(now.as_micros() + delay.as_micros() as i64).unwrap_or(now);
                self.connection = ConnectionState::Retry { attempt: *attempt, at };
                self.quiet = None;
                self.transcript.clear_partials();
                self.broken(reason, *broke, now);
            }
            Update::Gap(gap) => {
                if matches!(gap, Gap::CursorInvalid { .. } | Gap::Merged { .. }) {
                    self.transcript.clear();
                    self.reload = ReloadState { generation: self.reload.generation + 1, ..ReloadState::default() };
                    self.broke = None;
                }
                self.note(Tone::Warn, &describe_gap(gap));
            }
            Update::Ended(ending) => self.end(ending),
        }
        false
    }

    /// One line for one break, however often it is tried.
    fn broken(&mut self, reason: &str, broke: bool, now: Timestamp) {
        if self.broke.is_none() {
            let what = if broke { "connection lost" } else { "no connection yet" };
            let index = self.transcript.entries().len();
            self.note(Tone::Warn, &format!("{what}: {reason}"));
            self.broke = Some((now, index, reason.to_owned()));
        }
    }

    fn resumed(&mut self, place: Place, proven: bool, now: Timestamp) {
        self.stands(place);
        let resumed = describe_resume(&place, proven);
        let Some((since, index, reason)) = self.broke.take() else {
            return self.note(Tone::Good, &format!("connected again{resumed}"));
        };
        let text = format!("connection lost for {}: {reason}{resumed}", lasting(now.secs_since(since)));
        self.transcript.replace(index, EntryKind::Note(Tone::Good), &text);
    }

    fn end(&mut self, ending: &Ending) {
        self.transcript.clear_partials();
        self.status = ending.status.or(self.status);
        self.connection = ConnectionState::Ended;
        self.quiet = None;
        if let EndReason::Failed(failure) = &ending.reason {
            self.connection = ConnectionState::Stopped;
            self.note(Tone::Bad, &failure.message);
            if let Some(hint) = &failure.hint {
                self.note(Tone::Plain, hint);
            }
        }
    }

    /// The first subscription stands.
    fn linked(&mut self, place: Place) {
        self.stands(place);
        if let Some((_, index, reason)) = self.broke.take() {
            self.transcript.replace(index, EntryKind::Note(Tone::Plain), &format!("connected, after: {reason}"));
        }
    }

    /// A confirmation came. Its own message may have said already that the call is awaited.
    fn stands(&mut self, place: Place) {
        self.connection = if place.call_id.is_none() { ConnectionState::Waiting } else { ConnectionState::Live };
        self.quiet = None;
    }

    fn message(&mut self, message: &ServerMessage, raw: &str) -> bool {
        match message {
            ServerMessage::SubscriptionConfirmed(confirmed) => {
                self.status = Some(confirmed.status);
                self.connection = ConnectionState::Live;
                return true;
            }
            ServerMessage::SubscriptionPending(_) => self.connection = ConnectionState::Waiting,
            ServerMessage::Transcription(turn) => {
                self.last_turn = Some(turn.timestamp);
                self.event(message, raw);
            }
            ServerMessage::TranscriptionPartial(turn) => {
                let kind = EntryKind::Partial(turn.speaker_type);
                let entry = Entry::new(kind, Some(turn.timestamp), &turn.message_text, Some(raw));
                self.transcript.set_partial(turn.turn_id.clone(), entry);
            }
            ServerMessage::CallStatus(event) => {
                self.status = Some(event.status);
                if !event.status.is_ended() {
                    self.note(Tone::Plain, &format!("the call is now {}", event.status));
                }
            }
            ServerMessage::CallCompleted(event) => {
                let data = &event.call_data;
                self.status = Some(data.status);
                self.successful = data.call_successful;
                #[allow(clippy::cast_precision_loss)]
                let duration = data.duration_seconds.map(|secs| secs as f64);
                self.duration = duration;
                self.transcript.clear_partials();
                self.event(message, raw);
                // The agent may have become known with it.
                return true;
            }
            _ => {}
        }
        false
    }

    fn event(&mut self, message: &ServerMessage, raw: &str) {
        for entry in event_entries::entries(message, raw) {
            self.transcript.push(entry);
        }
    }

    fn note(&mut self, tone: Tone, text: &str) {
        self.transcript.push(Entry::new(EntryKind::Note(tone), None, text, None));
    }
}

/// A length of time in words.
fn lasting(secs: f64) -> String {
    match secs.max(0.0) {
        secs if secs < 10.0 => format!("{secs:.1} s"),
        secs if secs < 120.0 => format!("{secs:.0} s"),
        secs => callscope_common::transcript::clock(secs),
    }
}
