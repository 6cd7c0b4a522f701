//! A followed call: its connection, what is known of it, and its transcript.

use callscope_common::api::CallView;
use callscope_common::protocol::ServerMessage;
use callscope_common::{CallStatus, Timestamp};

use super::entry::{Entry, EntryKind};
use super::event_entries;
use super::transcript::Transcript;
use crate::render::Tint;
use crate::stream::{EndReason, Ending, Gap, Place, Progress, Update};
use crate::tail::{describe_gap, describe_resume};

#[derive(Debug)]
pub(crate) struct CallTab {
    /// The number of its stream.
    pub(crate) call: usize,
    /// The name that the user gave.
    pub(crate) identifier: String,
    /// Its other known names.
    names: Vec<String>,
    pub(crate) connection: ConnectionState,
    /// How far its stream has come.
    pub(crate) progress: Progress,
    /// The last known status.
    pub(crate) status: Option<CallStatus>,
    /// Whether the provider judged the call successful.
    pub(crate) successful: Option<bool>,
    /// The agent of the provider.
    pub(crate) agent: Option<String>,
    /// How many seconds it took, once it has ended.
    pub(crate) duration: Option<f64>,
    pub(crate) transcript: Transcript,
    pub(crate) reload: ReloadState,
    /// When the newest turn was spoken.
    last_turn: Option<Timestamp>,
    /// While the connection is broken: since when, the index of the note about it, and the reason.
    broke: Option<(Timestamp, usize, String)>,
    /// Since when a connection that should have sent a heartbeat has been silent.
    quiet: Option<Timestamp>,
}

/// The state of reading evicted events from the server again.
#[derive(Debug, Default)]
pub(crate) struct ReloadState {
    /// How often the transcript was cleared. Answers to earlier requests are dropped.
    pub(crate) generation: u32,
    /// Whether events that came into sight are being read.
    pub(crate) loading: bool,
    /// Whether reading failed. The next key allows another attempt.
    pub(crate) failed: bool,
    /// How many searches run on the server.
    pub(crate) scans: u32,
}

/// The state of a call's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    Connecting,
    /// Connected, but the server does not know the call yet.
    Waiting,
    /// Connected and subscribed.
    Live,
    /// Broken until the next attempt.
    Retry {
        /// The number of the attempt.
        attempt: u32,
        /// The time of the attempt.
        at: Timestamp,
    },
    /// The stream is complete.
    Ended,
    /// The stream failed for good.
    Stopped,
}

impl CallTab {
    pub(crate) fn new(call: usize, identifier: String) -> Self {
        Self {
            call,
            identifier,
            names: Vec::new(),
            connection: ConnectionState::Connecting,
            progress: Progress::default(),
            status: None,
            successful: None,
            agent: None,
            duration: None,
            transcript: Transcript::new(),
            reload: ReloadState::default(),
            last_turn: None,
            broke: None,
            quiet: None,
        }
    }

    /// Returns the state of the connection in words.
    pub(crate) fn state(&self, now: Timestamp) -> (String, Tint) {
        let whole = |secs: f64| secs.max(0.0) as i64;
        match (&self.connection, self.quiet) {
            (ConnectionState::Connecting, _) => ("CONNECTING".into(), Tint::Warning),
            (ConnectionState::Waiting, None) => ("WAITING".into(), Tint::Warning),
            (ConnectionState::Live | ConnectionState::Waiting, Some(since)) => {
                (format!("STALE {}s", whole(now.secs_since(since))), Tint::Warning)
            }
            (ConnectionState::Live, None) => ("LIVE".into(), Tint::Good),
            (ConnectionState::Retry { attempt, at }, _) => {
                (format!("RETRY {attempt} in {}s", whole(at.secs_since(now).ceil())), Tint::Warning)
            }
            (ConnectionState::Ended, _) => self.ended(),
            (ConnectionState::Stopped, _) => ("STOPPED".into(), Tint::Bad),
        }
    }

    fn ended(&self) -> (String, Tint) {
        match (self.status, self.successful) {
            (Some(CallStatus::Completed), Some(true)) => ("ENDED success".into(), Tint::Good),
            (Some(CallStatus::Completed), Some(false)) => ("ENDED failure".into(), Tint::Bad),
            (Some(CallStatus::Failed), _) => ("ENDED failed".into(), Tint::Bad),
            (Some(status), _) => (format!("ENDED {status}"), Tint::Plain),
            (None, _) => ("ENDED".into(), Tint::Plain),
        }
    }

    /// Returns whether `name` is a name of this call.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.identifier == name || self.names.iter().any(|known| known == name)
    }

    /// Returns whether the stream has ended.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.connection, ConnectionState::Ended | ConnectionState::Stopped)
    }

    /// Returns how many seconds the call has lasted so far.
    pub(crate) fn lasted(&self, now: Timestamp) -> Option<f64> {
        if self.duration.is_some() {
            return self.duration;
        }
        let end = if self.is_over() { self.last_turn? } else { now };
        Some(end.secs_since(self.progress.start?).max(0.0))
    }

    /// Takes in what the server says about the call.
    pub(crate) fn describe(&mut self, view: &CallView) {
        self.agent.clone_from(&view.agent_id);
        self.names.clone_from(&view.identifiers);
        self.names.push(view.call_sid.clone());
    }

    /// Takes in an update of the stream. Returns whether the server should be asked about the call.
    pub(crate) fn apply_update(&mut self, update: &Update, now: Timestamp) -> bool {
        match update {
            Update::Message(incoming) => {
                self.quiet = None;
                return self.message(&incoming.message, &incoming.raw);
            }
            Update::Ready(place) => self.first_subscribed(*place),
            Update::Quiet { secs } => self.quiet = Some(now.plus_secs(-i64::from(*secs))),
            Update::Heard => self.quiet = None,
            Update::Resumed { place, proven } => self.resumed(*place, *proven, now),
            Update::Reconnecting { attempt, delay, reason, broke } => {
                let at = Timestamp::from_micros(now.as_micros() + delay.as_micros() as i64).unwrap_or(now);
                self.connection = ConnectionState::Retry { attempt: *attempt, at };
                self.quiet = None;
                self.transcript.clear_partials();
                self.note_break(reason, *broke, now);
            }
            Update::Gap(gap) => {
                if matches!(gap, Gap::CursorInvalid { .. } | Gap::Merged { .. }) {
                    self.transcript.clear();
                    self.reload = ReloadState { generation: self.reload.generation + 1, ..ReloadState::default() };
                    self.broke = None;
                }
                self.note(Tint::Warning, &describe_gap(gap));
            }
            Update::Ended(ending) => self.end(ending),
        }
        false
    }

    /// Adds a note about a broken connection, unless the note of an earlier attempt is still there.
    fn note_break(&mut self, reason: &str, broke: bool, now: Timestamp) {
        if self.broke.is_none() {
            let what = if broke { "connection lost" } else { "no connection yet" };
            let index = self.transcript.entries().len();
            self.note(Tint::Warning, &format!("{what}: {reason}"));
            self.broke = Some((now, index, reason.to_owned()));
        }
    }

    fn resumed(&mut self, place: Place, proven: bool, now: Timestamp) {
        self.subscribed(place);
        let resumed = describe_resume(&place, proven);
        let Some((since, index, reason)) = self.broke.take() else {
            return self.note(Tint::Good, &format!("connected again{resumed}"));
        };
        let text = format!("connection lost for {}: {reason}{resumed}", duration_words(now.secs_since(since)));
        self.transcript.replace(index, EntryKind::Note(Tint::Good), &text);
    }

    fn end(&mut self, ending: &Ending) {
        self.transcript.clear_partials();
        self.status = ending.status.or(self.status);
        self.connection = ConnectionState::Ended;
        self.quiet = None;
        if let EndReason::Failed(failure) = &ending.reason {
            self.connection = ConnectionState::Stopped;
            self.note(Tint::Bad, &failure.message);
            if let Some(hint) = &failure.hint {
                self.note(Tint::Plain, hint);
            }
        }
    }

    /// The first subscription is confirmed.
    fn first_subscribed(&mut self, place: Place) {
        self.subscribed(place);
        if let Some((_, index, reason)) = self.broke.take() {
            self.transcript.replace(index, EntryKind::Note(Tint::Plain), &format!("connected, after: {reason}"));
        }
    }

    /// The subscription is confirmed, for a call that the server may not know yet.
    fn subscribed(&mut self, place: Place) {
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
                    self.note(Tint::Plain, &format!("the call is now {}", event.status));
                }
            }
            ServerMessage::CallCompleted(event) => {
                let data = &event.call_data;
                self.status = Some(data.status);
                self.successful = data.call_successful;
                let duration = data.duration_seconds.map(|secs| secs as f64);
                self.duration = duration;
                self.transcript.clear_partials();
                self.event(message, raw);
                // The server knows the agent at the latest when the call has ended, so it is asked again.
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

    fn note(&mut self, tint: Tint, text: &str) {
        self.transcript.push(Entry::new(EntryKind::Note(tint), None, text, None));
    }
}

/// Returns a duration in words.
fn duration_words(secs: f64) -> String {
    match secs.max(0.0) {
        secs if secs < 10.0 => format!("{secs:.1} s"),
        secs if secs < 120.0 => format!("{secs:.0} s"),
        secs => callscope_common::transcript::clock(secs),
    }
}
