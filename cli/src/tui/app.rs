//! The full-screen view's state, and how messages change it. No clock, no terminal, no socket.

use std::convert::Infallible;

use callscope_common::Timestamp;
use callscope_common::protocol::ServerMessage;
use callscope_common::transcript::clock;
use ratatui::Frame;

use super::call::{Call, Link};
use super::entry::{Columns, Entry, Kind};
use super::keys::{self, Action};
use super::stage::{self, Input, Model};
use super::view;
use crate::live::{EndReason, Gap, Place, Update};
use crate::tail::outcome;

/// Rows that are not the transcript's: two of header, a rule, the footer.
pub const FRAME_ROWS: u16 = 4;
/// The smallest screen that is drawn on.
pub const SMALLEST: (u16, u16) = (40, 12);

/// Something came of a call's stream.
#[derive(Debug)]
pub struct Live {
    /// Which call.
    pub call: usize,
    /// What to show.
    pub shown: Vec<Update>,
    /// When the call began.
    pub start: Option<Timestamp>,
    /// How far its stream has come.
    pub place: Place,
}

type Message = Input<Live>;
type Effect = stage::Effect<Infallible>;

/// Everything the view shows.
#[derive(Debug)]
pub struct App {
    /// The server's address.
    pub server: String,
    /// The followed calls.
    pub calls: Vec<Call>,
    /// The transcript, in the order things came.
    pub entries: Vec<Entry>,
    /// Columns and rows of the screen.
    pub size: (u16, u16),
    /// Where things stand at this width.
    pub columns: Columns,
    /// The first row of the transcript that is on the screen.
    pub top: usize,
    /// Whether the view goes along with what comes.
    pub follow: bool,
    /// Turns that came while it does not.
    pub new_below: usize,
    /// Whether the keys are shown.
    pub help: bool,
    /// Whether to use colours.
    pub color: bool,
    /// The time.
    pub now: Timestamp,
}

impl App {
    /// Before anything came.
    pub fn new(server: String, identifiers: Vec<String>, color: bool, size: (u16, u16), now: Timestamp) -> Self {
        Self {
            server,
            columns: Columns::new(size.0, identifiers.len() > 1),
            calls: identifiers.into_iter().map(Call::new).collect(),
            entries: Vec::new(),
            size,
            top: 0,
            follow: true,
            new_below: 0,
            help: false,
            color,
            now,
        }
    }

    /// Rows that the transcript takes on the screen.
    pub fn body(&self) -> usize {
        usize::from(self.size.1.saturating_sub(FRAME_ROWS))
    }

    /// Whether every stream is over.
    pub fn is_over(&self) -> bool {
        self.calls.iter().all(|call| matches!(call.link, Link::Ended | Link::Stopped))
    }

    /// Rows of the whole transcript, with what is being spoken.
    pub fn rows(&self) -> usize {
        self.shown().map(|entry| entry.rows.len()).sum()
    }

    /// The transcript, with what is being spoken at its end.
    pub fn shown(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().chain(self.calls.iter().filter_map(|call| call.partial.as_ref()))
    }

    fn act(&mut self, action: Action) -> Vec<Effect> {
        let page = self.body().saturating_sub(1).max(1);
        match action {
            Action::Quit => return vec![Effect::Quit],
            Action::Interrupt => return vec![Effect::Interrupt],
            Action::Suspend => return vec![Effect::Suspend],
            Action::Up => self.scroll_to(self.top.saturating_sub(1)),
            Action::Down => self.scroll_to(self.top + 1),
            Action::PageUp => self.scroll_to(self.top.saturating_sub(page)),
            Action::PageDown => self.scroll_to(self.top + page),
            Action::Top => self.scroll_to(0),
            Action::Bottom => self.scroll_to(usize::MAX),
            Action::Follow => {
                self.follow = !self.follow;
                self.settle();
            }
            Action::Help => self.help = !self.help,
            Action::Close => self.help = false,
        }
        vec![Effect::Draw]
    }

    fn last_top(&self) -> usize {
        self.rows().saturating_sub(self.body())
    }

    /// Scrolling up stops following; reaching the end takes it up again.
    fn scroll_to(&mut self, top: usize) {
        let last = self.last_top();
        self.top = top.min(last);
        self.follow = self.top == last;
        self.settle();
    }

    fn settle(&mut self) {
        if self.follow {
            self.top = self.last_top();
            self.new_below = 0;
        } else {
            self.top = self.top.min(self.last_top());
        }
    }

    /// Wraps everything anew, and keeps the entry at the top of the screen where it is.
    fn resize(&mut self, width: u16, height: u16) {
        let anchor = self.entry_at(self.top);
        self.size = (width, height);
        let columns = Columns::new(width, self.calls.len() > 1);
        if columns != self.columns {
            self.columns = columns;
            let partials = self.calls.iter_mut().filter_map(|call| call.partial.as_mut());
            self.entries.iter_mut().chain(partials).for_each(|entry| entry.wrap(&columns));
            self.top = self.entries.iter().take(anchor).map(|entry| entry.rows.len()).sum();
        }
        self.settle();
    }

    fn entry_at(&self, row: usize) -> usize {
        let mut rows = 0;
        let entries = self.entries.iter().take_while(|entry| {
            rows += entry.rows.len();
            rows <= row
        });
        entries.count()
    }

    fn live(&mut self, call: usize, update: Update) {
        match update {
            Update::Message(incoming) => self.message(call, &incoming.message),
            Update::Ready(place) => self.linked(call, place),
            Update::Resumed(place) => {
                self.linked(call, place);
                self.note(call, &format!("connected again; resumed after seq {}, nothing missed", place.seq));
            }
            Update::Reconnecting { attempt, delay, reason, broke } => {
                #[allow(clippy::cast_possible_truncation)]
                let at = Timestamp::from_micros(self.now.as_micros() + delay.as_micros() as i64).unwrap_or(self.now);
                self.calls[call].link = Link::Retry { attempt, at };
                self.calls[call].partial = None;
                if attempt == 1 {
                    let what = if broke { "connection lost" } else { "no connection yet" };
                    self.note(call, &format!("{what}: {reason}"));
                }
            }
            Update::Gap(gap) => {
                if matches!(gap, Gap::CursorInvalid { .. } | Gap::Merged { .. }) {
                    self.entries.retain(|entry| entry.call != call);
                    self.calls[call].partial = None;
                }
                self.note(call, &crate::tail::gap_words(&gap));
            }
            Update::Ended(ending) => {
                self.calls[call].partial = None;
                self.calls[call].status = ending.status;
                self.calls[call].link = Link::Ended;
                if let EndReason::Failed(failure) = &ending.reason {
                    self.calls[call].link = Link::Stopped;
                    self.note(call, &failure.message);
                    if let Some(hint) = &failure.hint {
                        self.note(call, hint);
                    }
                }
            }
        }
    }

    /// A confirmation came. Its own message may have said already that the call is awaited.
    fn linked(&mut self, call: usize, place: Place) {
        let waiting = place.call_id.is_none();
        self.calls[call].link = if waiting { Link::Waiting } else { Link::Live };
    }

    fn message(&mut self, call: usize, message: &ServerMessage) {
        let columns = self.columns;
        let start = self.calls[call].start;
        let time = |at: Timestamp| clock(start.map_or(0.0, |start| at.secs_since(start)));
        match message {
            ServerMessage::SubscriptionConfirmed(confirmed) => {
                self.calls[call].status = Some(confirmed.status);
                self.calls[call].link = Link::Live;
            }
            ServerMessage::SubscriptionPending(_) => self.calls[call].link = Link::Waiting,
            ServerMessage::Transcription(turn) => {
                let kind = Kind::Turn(turn.speaker_type);
                self.entries.push(Entry::new(call, kind, time(turn.timestamp), &turn.message_text, &columns));
                self.calls[call].last_turn = Some(turn.timestamp);
                self.calls[call].partial.take_if(|partial| partial.kind == Kind::Partial(turn.speaker_type));
                self.new_below += usize::from(!self.follow);
            }
            ServerMessage::TranscriptionPartial(turn) => {
                let kind = Kind::Partial(turn.speaker_type);
                let entry = Entry::new(call, kind, time(turn.timestamp), &turn.message_text, &columns);
                self.calls[call].partial = Some(entry);
            }
            ServerMessage::CallStatus(event) => {
                self.calls[call].status = Some(event.status);
                if !event.status.is_ended() {
                    self.note(call, &format!("the call is now {}", event.status));
                }
            }
            ServerMessage::CallCompleted(event) => {
                let data = &event.call_data;
                self.calls[call].status = Some(data.status);
                #[allow(clippy::cast_precision_loss)]
                let duration = data.duration_seconds.map(|secs| secs as f64);
                self.calls[call].duration = duration;
                self.calls[call].partial = None;
                let (line, summary) = outcome(data);
                for text in std::iter::once(line).chain(summary) {
                    self.entries.push(Entry::new(call, Kind::Result, String::new(), &text, &columns));
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, call: usize, text: &str) {
        let label = if self.calls.len() > 1 { format!("{}: ", self.calls[call].identifier) } else { String::new() };
        let columns = self.columns;
        self.entries.push(Entry::new(call, Kind::Note, String::new(), &format!("{label}{text}"), &columns));
    }
}

impl Model for App {
    type Message = Live;
    type Wish = Infallible;

    fn update(&mut self, message: Message, now: Timestamp) -> Vec<Effect> {
        self.now = now;
        match message {
            Input::Key(key) => return keys::action(key).map_or_else(Vec::new, |action| self.act(action)),
            Input::Paste(_) => return Vec::new(),
            Input::Resize(width, height) => self.resize(width, height),
            Input::World(Live { call, shown, start, place }) => {
                self.calls[call].start = start;
                for update in shown {
                    self.live(call, update);
                }
                self.calls[call].place = place;
                self.settle();
            }
            Input::Tick => {}
        }
        vec![Effect::Draw]
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        view::draw(self, frame.area(), frame.buffer_mut());
    }

    fn moves(&self) -> bool {
        !self.is_over()
    }
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;
