//! Carries out the actions of keys.

use callscope_common::text;
use crossterm::event::{KeyCode, KeyEvent};

use super::{Effect, Origin, Overlay, PromptKind, Request, TailApp};
use crate::render::Tint;
use crate::tail::pattern::Pattern;
use crate::tail::tui::keys::{Action, HELP};
use crate::tail::tui::picker::CallPicker;
use crate::tail::tui::raw_view::RawView;
use crate::tail::tui::save::{SaveRequest, default_file_name, original_text};
use crate::term::text_input::TextInput;

impl TailApp {
    pub(super) fn act(&mut self, action: Action) -> Vec<Effect> {
        match action {
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
                    self.notice = Some((Tint::Warning, none.into()));
                }
            }
            Action::Search => self.ask(PromptKind::Search, ""),
            Action::Filter => {
                let before = transcript.filter().0.map(|filter| filter.text().to_owned()).unwrap_or_default();
                self.ask(PromptKind::Filter, &before);
            }
            Action::Save => {
                let name = default_file_name(&tab.identifier);
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
                    self.notice = Some((Tint::Warning, format!("{what}: {text}")));
                }
                return scan;
            }
            PromptKind::Save if text.is_empty() => {}
            PromptKind::Save => return vec![Effect::Request(Request::Save(SaveRequest::new(tab, text)))],
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
            self.notice = Some((Tint::Plain, "a recording has no other calls".into()));
            return Vec::new();
        }
        self.overlay = Overlay::Picker(CallPicker::default(), 0);
        vec![Effect::Request(Request::List)]
    }

    fn close_tab(&mut self) -> Vec<Effect> {
        if self.tabs.len() < 2 {
            self.notice = Some((Tint::Plain, "the only call stays open; q quits".into()));
            return Vec::new();
        }
        vec![Effect::Request(Request::Close(self.tabs.remove(self.current).call))]
    }

    fn copy(&mut self) -> Vec<Effect> {
        let Some(entry) = self.tab().and_then(|tab| tab.transcript.selected().1) else { return Vec::new() };
        let said = text::lines(&original_text(entry)).into_owned();
        self.notice = Some((Tint::Good, format!("copied {} characters (OSC 52)", said.chars().count())));
        vec![Effect::Copy(said)]
    }

    fn show_raw(&mut self) {
        let raw = self.tab().and_then(|tab| tab.transcript.selected_raw());
        match raw {
            Some(json) => self.overlay = Overlay::Raw(RawView::new(json, self.size.0.into())),
            None => self.notice = Some((Tint::Plain, "no message stands behind this line".into())),
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
