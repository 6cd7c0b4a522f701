//! What keys do.

use std::fmt::Write as _;

use callscope_common::protocol::ServerMessage;
use callscope_common::text;
use crossterm::event::{KeyCode, KeyEvent};

use super::{Effect, Origin, Overlay, PromptKind, Request, SavePart, TailApp};
use crate::render::Safe;
use crate::tail::pattern::Pattern;
use crate::tail::tui::call_tab::CallTab;
use crate::tail::tui::entry::{Entry, Layout, Tone};
use crate::tail::tui::keys::{Action, HELP};
use crate::tail::tui::picker::CallPicker;
use crate::tail::tui::raw_view::RawView;
use crate::term::text_input::TextInput;

impl TailApp {
    /// Does what a key asks for.
    pub(super) fn act(&mut self, action: Action) -> Vec<Effect> {
        match action {
            Action::Interrupt => return vec![Effect::Interrupt],
            Action::Suspend => return vec![Effect::Suspend],
            Action::Redraw => return vec![Effect::Redraw],
            Action::Quit if matches!(self.overlay, Overlay::None) => return vec![Effect::Quit],
            Action::Quit | Action::Close => self.overlay = Overlay::None,
            Action::Help => self.overlay = Overlay::Help(0),
            Action::Step { .. } | Action::Page { .. } | Action::End { .. } | Action::Pause
                if !matches!(self.overlay, Overlay::None) =>
            {
                self.scroll_overlay(action);
            }
            Action::Pause => return self.pause(),
            Action::Tab { forward } => self.switch_tab(forward),
            Action::Picker => return self.open_picker(),
            Action::CloseTab => return self.close_tab(),
            Action::Wrap => self.wrap = !self.wrap,
            Action::Times => self.times = self.times.next(),
            action => return self.act_on_transcript(action),
        }
        Vec::new()
    }

    fn act_on_transcript(&mut self, action: Action) -> Vec<Effect> {
        let Some(tab) = self.tabs.get_mut(self.current) else { return Vec::new() };
        let transcript = &mut tab.transcript;
        match action {
            Action::Step { down } => transcript.step(down),
            Action::Page { down } => transcript.page(down),
            Action::End { last } => transcript.end(last),
            Action::Follow => transcript.set_follow(!transcript.follows()),
            Action::Unfold => transcript.unfold(),
            Action::Speaker(speaker) => transcript.toggle(speaker),
            Action::Find { forward } => {
                let found = transcript.find(forward);
                if !found {
                    let none = transcript.search().map_or("nothing was searched for: /", |_| "not found");
                    self.notice = Some((Tone::Warn, none.into()));
                }
            }
            Action::Search => self.ask(PromptKind::Search, ""),
            Action::Filter => {
                let before = transcript.filter().0.map(|filter| filter.text().to_owned()).unwrap_or_default();
                self.ask(PromptKind::Filter, &before);
            }
            Action::Save => {
                let name = file_name(&tab.identifier);
                self.ask(PromptKind::Save, &name);
            }
            Action::Copy => return self.copy(),
            Action::Raw => self.show_raw(),
            _ => {}
        }
        Vec::new()
    }

    fn ask(&mut self, ask: PromptKind, before: &str) {
        self.prompt = Some((ask, TextInput::new(before)));
    }

    pub(super) fn paste(&mut self, text: &str) {
        match (&mut self.prompt, &mut self.overlay) {
            (Some((_, line)), _) => line.paste(text),
            (None, Overlay::Picker(picker, _)) => picker.paste(text),
            _ => {}
        }
    }

    pub(super) fn prompt_key(&mut self, key: KeyEvent) -> Vec<Effect> {
        let Some((ask, mut line)) = self.prompt.take() else { return Vec::new() };
        match key.code {
            KeyCode::Esc => {}
            KeyCode::Enter => return self.answer(ask, line.text()),
            _ => {
                line.handle_key(key);
                self.prompt = Some((ask, line));
            }
        }
        Vec::new()
    }

    fn answer(&mut self, ask: PromptKind, text: &str) -> Vec<Effect> {
        let Some(tab) = self.tabs.get_mut(self.current) else { return Vec::new() };
        match ask {
            PromptKind::Filter => {
                tab.transcript.set_filter(Pattern::new(text));
                return self.scan(true, text);
            }
            PromptKind::Search => {
                let pattern = Pattern::new(text);
                let searched = pattern.is_some();
                let found = tab.transcript.set_search(pattern);
                let scan = self.scan(false, text);
                if !found && searched {
                    let what = if scan.is_empty() { "not found" } else { "searching the older part for" };
                    self.notice = Some((Tone::Warn, format!("{what}: {text}")));
                }
                return scan;
            }
            PromptKind::Save if text.is_empty() => {}
            PromptKind::Save => {
                let layout = text.ends_with(".txt").then_some(*tab.transcript.layout());
                let id = tab.place.call_id.map(|id| id.to_string()).unwrap_or_default();
                return vec![Effect::Request(Request::Save {
                    path: text.to_owned(),
                    id,
                    parts: save_parts(tab, layout),
                    text: layout,
                })];
            }
        }
        Vec::new()
    }

    fn pause(&mut self) -> Vec<Effect> {
        match (&self.origin, self.tabs.get_mut(self.current)) {
            (Origin::Recording { .. }, _) => return vec![Effect::Request(Request::Pause)],
            (Origin::Server(_), Some(tab)) => tab.transcript.page(true),
            _ => {}
        }
        Vec::new()
    }

    fn switch_tab(&mut self, forward: bool) {
        let count = self.tabs.len().max(1);
        self.overlay = Overlay::None;
        self.current = (self.current + if forward { 1 } else { count - 1 }) % count;
    }

    fn open_picker(&mut self) -> Vec<Effect> {
        if matches!(self.origin, Origin::Recording { .. }) {
            self.notice = Some((Tone::Plain, "a recording has no other calls".into()));
            return Vec::new();
        }
        self.overlay = Overlay::Picker(CallPicker::default(), 0);
        vec![Effect::Request(Request::List)]
    }

    fn close_tab(&mut self) -> Vec<Effect> {
        if self.tabs.len() < 2 {
            self.notice = Some((Tone::Plain, "the only call stays open; q quits".into()));
            return Vec::new();
        }
        vec![Effect::Request(Request::Close(self.tabs.remove(self.current).call))]
    }

    fn copy(&mut self) -> Vec<Effect> {
        let Some(entry) = self.tab().and_then(|tab| tab.transcript.selected().1) else { return Vec::new() };
        let said = text::lines(&said(entry)).into_owned();
        self.notice = Some((Tone::Good, format!("copied {} characters (OSC 52)", said.chars().count())));
        vec![Effect::Copy(said)]
    }

    fn show_raw(&mut self) {
        let raw = self.tab().and_then(|tab| tab.transcript.selected_raw());
        match raw {
            Some(json) => self.overlay = Overlay::Raw(RawView::new(json, self.size.0.into())),
            None => self.notice = Some((Tone::Plain, "no message stands behind this line".into())),
        }
    }

    fn scroll_overlay(&mut self, action: Action) {
        let body = self.body();
        let (top, rows) = match &mut self.overlay {
            Overlay::Help(top) => (top, HELP.len()),
            Overlay::Raw(raw) => {
                let rows = raw.rows().len();
                (&mut raw.top, rows)
            }
            _ => return,
        };
        let last = rows.saturating_sub(body);
        *top = match action {
            Action::Step { down: true } => *top + 1,
            Action::Step { down: false } => top.saturating_sub(1),
            Action::Page { down: true } | Action::Pause => *top + body,
            Action::Page { down: false } => top.saturating_sub(body),
            Action::End { last: true } => last,
            _ => 0,
        }
        .min(last);
    }
}

/// What was said, as it came: untrusted.
fn said(entry: &Entry) -> String {
    match entry.raw.as_deref().map(ServerMessage::parse) {
        Some(Ok(ServerMessage::Transcription(turn))) => turn.message_text,
        Some(Ok(ServerMessage::TranscriptionPartial(turn))) => turn.message_text,
        _ => entry.text.to_string(),
    }
}

fn file_name(identifier: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    format!("callscope-{}.ndjson", identifier.chars().map(safe).collect::<String>())
}

/// The transcript as it is saved. What is not held is read again while it is written.
fn save_parts(tab: &CallTab, text: Option<Layout>) -> Vec<SavePart> {
    let mut parts = Vec::new();
    for entry in tab.transcript.entries() {
        if entry.is_evicted() {
            match parts.last_mut() {
                Some(SavePart::Events(_, to)) => *to = entry.seq,
                _ => parts.push(SavePart::Events(entry.seq - 1, entry.seq)),
            }
            continue;
        }
        if !matches!(parts.last(), Some(SavePart::Text(_))) {
            parts.push(SavePart::Text(String::new()));
        }
        if let Some(SavePart::Text(ready)) = parts.last_mut() {
            write(ready, entry, text.as_ref());
        }
    }
    parts
}

/// Writes an entry: as text, or the message that it came with.
pub fn write(to: &mut String, entry: &Entry, text: Option<&Layout>) {
    let _ = match (text, entry.kind.speaker(), &entry.raw) {
        (Some(layout), Some(speaker), _) => {
            writeln!(to, "{} {:5}  {}", layout.time(entry), speaker.as_str(), text::one_line(&said(entry)))
        }
        (Some(_), None, _) => writeln!(to, "-- {}", entry.text),
        (None, _, Some(raw)) => write!(to, "{}", Safe::json_line(raw).as_str()),
        (None, _, None) => Ok(()),
    };
}
