//! The state of the full-screen `tail` and `play`, and how it changes. It knows no clock, terminal or socket.

mod actions;
mod message;
mod reload;

use callscope_common::Timestamp;
use callscope_common::api::CallView;
use crossterm::event::{KeyCode, KeyEvent};

use super::call_tab::{CallTab, ConnectionState};
use super::entry::{Layout, TimeDisplay};
use super::keys;
use super::picker::{CallPicker, PickerOutcome};
use super::raw_view::RawView;
use crate::render::Tint;
use crate::stream::CallUpdates;
use crate::term::event_loop::{self, Input};
use crate::term::palette::Palette;
use crate::term::text_input::TextInput;

pub(crate) use message::{Message, ReloadTarget, Request, ScanQuery};

/// Most tabs. Beyond it, the next call replaces the oldest one that has ended.
pub(crate) const MAX_TABS: usize = 100;
/// Most bytes of text that are held for all calls together. The rest is read from the server again when it comes into
/// sight.
pub(crate) const TEXT_LIMIT: usize = 32 << 20;
/// Seconds between two requests for the calls while the picker is open.
const LIST_TICKS: u32 = 2;

pub(crate) type Effect = event_loop::Effect<Request>;

/// Where the calls come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The server at this address.
    Server(String),
    Recording {
        file: String,
        speed: String,
    },
}

/// What is shown instead of the transcript.
#[derive(Debug)]
pub(crate) enum Overlay {
    None,
    /// The keys, from this row on.
    Help(usize),
    /// A message as it came.
    Raw(RawView),
    /// The calls to choose from, and the number of ticks since the picker was opened.
    Picker(CallPicker, u32),
}

/// What the prompt in the last row asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PromptKind {
    Search,
    Filter,
    /// The name of a file.
    Save,
}

/// The state of the view.
#[derive(Debug)]
pub(crate) struct TailApp {
    pub(crate) origin: Origin,
    pub(crate) tabs: Vec<CallTab>,
    /// The index of the tab that is shown.
    pub(crate) current: usize,
    pub(crate) overlay: Overlay,
    pub(crate) prompt: Option<(PromptKind, TextInput)>,
    /// A notice in the last row until the next key.
    pub(crate) notice: Option<(Tint, String)>,
    /// The columns and rows of the screen.
    pub(crate) size: (u16, u16),
    pub(crate) palette: Palette,
    pub(crate) now: Timestamp,
    /// Whether a recording is paused.
    pub(crate) paused: bool,
    /// Most bytes of text that are held for all calls together.
    pub(crate) text_limit: usize,
    times: TimeDisplay,
    wrap: bool,
}

impl TailApp {
    /// Starts without any message. Without identifiers, it opens the picker, or with `active` waits for calls.
    pub(crate) fn new(origin: Origin, identifiers: Vec<String>, active: bool, color: bool, now: Timestamp) -> Self {
        let choose = identifiers.is_empty() && !active;
        Self {
            origin,
            tabs: identifiers
                .into_iter()
                .enumerate()
                .map(|(call, identifier)| CallTab::new(call, identifier))
                .collect(),
            current: 0,
            overlay: if choose { Overlay::Picker(CallPicker::default(), 0) } else { Overlay::None },
            prompt: None,
            notice: None,
            size: (80, 24),
            palette: Palette::new(color),
            now,
            paused: false,
            text_limit: TEXT_LIMIT,
            times: TimeDisplay::default(),
            wrap: true,
        }
    }

    /// Returns the tab that is shown.
    pub(crate) fn tab(&self) -> Option<&CallTab> {
        self.tabs.get(self.current)
    }

    /// Returns the rows above the transcript: the call and its state, the server and the progress, the tabs, and a
    /// rule.
    pub(crate) fn header_rows(&self) -> u16 {
        if self.tabs.len() > 1 { 4 } else { 3 }
    }

    /// Returns the rows of the transcript.
    pub(crate) fn body(&self) -> usize {
        usize::from(self.size.1.saturating_sub(self.header_rows() + 1))
    }

    /// Returns the state of a call in words.
    pub(crate) fn state(&self, tab: &CallTab) -> (String, Tint) {
        match (&self.origin, &tab.connection) {
            (Origin::Recording { .. }, ConnectionState::Live | ConnectionState::Connecting) if self.paused => {
                ("PAUSED".into(), Tint::Warning)
            }
            (Origin::Recording { speed, .. }, ConnectionState::Live | ConnectionState::Connecting) => {
                (format!("PLAYING {speed}"), Tint::Good)
            }
            _ => tab.state(self.now),
        }
    }

    fn key(&mut self, key: KeyEvent) -> Vec<Effect> {
        self.notice = None;
        self.tabs.iter_mut().for_each(|tab| tab.reload.failed = false);
        if let Some(effect) = Effect::of_control(key) {
            return vec![effect];
        }
        if self.prompt.is_some() {
            return self.prompt_key(key);
        }
        match &mut self.overlay {
            Overlay::Picker(picker, _) => match picker.key(key) {
                PickerOutcome::Stay => Vec::new(),
                PickerOutcome::Close => self.leave_picker(key.code == KeyCode::Char('q')),
                PickerOutcome::Chosen(sid) => self.pick(sid),
            },
            _ => keys::action(key).map_or_else(Vec::new, |action| self.act(action)),
        }
    }

    /// Closes the picker. Without any call, `q` quits the program and Esc does nothing.
    fn leave_picker(&mut self, quit: bool) -> Vec<Effect> {
        if self.tabs.is_empty() {
            return if quit { vec![Effect::Quit] } else { Vec::new() };
        }
        self.overlay = Overlay::None;
        Vec::new()
    }

    /// Shows the tab of a picked call, or opens one.
    fn pick(&mut self, sid: String) -> Vec<Effect> {
        self.overlay = Overlay::None;
        if let Some(place) = self.tabs.iter().position(|tab| tab.is_named(&sid)) {
            self.current = place;
            return Vec::new();
        }
        vec![Effect::Request(Request::Open(sid))]
    }

    fn message(&mut self, message: Message) -> Vec<Effect> {
        match message {
            Message::Updates(news) => return self.updated(news),
            Message::Opened { call, identifier, wanted } => return self.opened(call, identifier, wanted),
            Message::Described(call, view) => {
                if let Some(tab) = self.tabs.iter_mut().find(|tab| tab.call == call) {
                    tab.describe(&view);
                }
            }
            Message::Calls(calls) => return self.listed(calls),
            Message::Saved(saved) => {
                self.notice = Some(match saved {
                    Ok(words) => (Tint::Good, words),
                    Err(why) => (Tint::Bad, why),
                });
            }
            Message::Paused(paused) => self.paused = paused,
            Message::Reloaded(target, events) => self.loaded(&target, events),
            Message::Scanned(target, scan, found) => self.scanned(&target, &scan, found),
        }
        Vec::new()
    }

    fn updated(&mut self, news: Vec<CallUpdates>) -> Vec<Effect> {
        let mut requests = Vec::new();
        for CallUpdates { call, updates, progress } in news {
            // Updates of a closed tab may still come.
            let Some(tab) = self.tabs.iter_mut().find(|tab| tab.call == call) else { continue };
            tab.progress = progress;
            for update in &updates {
                if tab.apply_update(update, self.now) && matches!(self.origin, Origin::Server(_)) {
                    requests.push(Effect::Request(Request::Describe(call, tab.identifier.clone())));
                }
            }
        }
        requests
    }

    fn opened(&mut self, call: usize, identifier: String, wanted: bool) -> Vec<Effect> {
        let mut requests = Vec::new();
        if self.tabs.len() >= MAX_TABS
            && let Some(oldest) =
                (0..self.tabs.len()).find(|place| *place != self.current && self.tabs[*place].is_over())
        {
            requests.push(Effect::Request(Request::Close(self.tabs.remove(oldest).call)));
            self.current -= usize::from(oldest < self.current);
        }
        self.tabs.push(CallTab::new(call, identifier));
        if wanted {
            self.current = self.tabs.len() - 1;
        }
        requests
    }

    /// Takes in a list of calls. The only live call is picked without a question.
    fn listed(&mut self, calls: Result<Vec<CallView>, String>) -> Vec<Effect> {
        let Overlay::Picker(picker, _) = &mut self.overlay else { return Vec::new() };
        let first = !picker.loaded && self.tabs.is_empty();
        let live = calls.iter().flatten().filter(|call| !call.status.is_ended());
        let sids: Vec<String> = live.map(|call| call.call_sid.clone()).take(2).collect();
        picker.list(calls);
        match <[String; 1]>::try_from(sids) {
            Ok([only]) if first => self.pick(only),
            _ => Vec::new(),
        }
    }

    fn tick(&mut self) -> Vec<Effect> {
        let Overlay::Picker(_, ticks) = &mut self.overlay else { return Vec::new() };
        *ticks += 1;
        if ticks.is_multiple_of(LIST_TICKS) { vec![Effect::Request(Request::List)] } else { Vec::new() }
    }

    fn resize(&mut self, width: u16, height: u16) -> Vec<Effect> {
        self.size = (width, height);
        match &mut self.overlay {
            Overlay::Raw(raw) => raw.wrap(width.into()),
            Overlay::Picker(picker, _) if !picker.loaded => return vec![Effect::Request(Request::List)],
            _ => {}
        }
        Vec::new()
    }

    /// Lays out the tab that is shown. Returns a request for the events that have to be read first.
    fn lay_out(&mut self) -> Option<Effect> {
        let (width, body, times, wrap) = (self.size.0.into(), self.body(), self.times, self.wrap);
        self.current = self.current.min(self.tabs.len().saturating_sub(1));
        if let Some(tab) = self.tabs.get_mut(self.current) {
            tab.transcript.resize(Layout { width, times, wrap, start: tab.progress.start }, body);
        }
        self.share();
        self.load()
    }
}

impl TailApp {
    /// Takes an input in at the time `now` and returns what is to be done.
    pub(crate) fn apply(&mut self, input: Input<Message>, now: Timestamp) -> Vec<Effect> {
        self.now = now;
        let mut effects = match input {
            Input::Key(key) => self.key(key),
            Input::Paste(text) => {
                self.paste(&text);
                Vec::new()
            }
            Input::Resize(width, height) => self.resize(width, height),
            Input::Message(message) => self.message(message),
            Input::Tick => self.tick(),
        };
        effects.extend(self.lay_out());
        effects.push(Effect::Draw);
        effects
    }

    /// Returns whether what is shown changes with time alone.
    pub(crate) fn is_moving(&self) -> bool {
        let moving = |tab: &CallTab| {
            matches!(tab.connection, ConnectionState::Live | ConnectionState::Retry { .. }) && !self.paused
        };
        matches!(self.overlay, Overlay::Picker(..)) || self.tabs.iter().any(moving)
    }
}

#[cfg(test)]
#[path = "app_tests/mod.rs"]
mod tests;
