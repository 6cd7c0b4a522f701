//! Changes the state by inputs, without a clock, a terminal or a socket.

use callscope_common::Timestamp;
use callscope_common::api::Stats;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Frame;

use super::keys::{self, Action};
use super::message::{AdminAction, List, Message, Request};
use super::rows::{TableRow, columns};
use super::state::{DetailView, Notice, Overlay, ServerState, TopApp};
use super::tab::Tab;
use super::{details, view};
use crate::term::event_loop::{self, Input, Model};
use crate::term::text_input::TextInput;

type Effect = event_loop::Effect<Request>;

impl Model for TopApp {
    type Message = Message;
    type Request = Request;

    fn update(&mut self, input: Input<Message>, now: Timestamp) -> Vec<Effect> {
        self.now = now;
        match input {
            Input::Key(key) => self.handle_key(key),
            Input::Paste(text) => self.paste(&text),
            Input::Resize(width, height) => {
                self.size = (width, height);
                self.clamp();
                vec![Effect::Draw]
            }
            Input::Tick => {
                self.clamp();
                vec![Effect::Draw]
            }
            Input::Message(message) => {
                self.handle_message(message);
                vec![Effect::Draw]
            }
        }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        view::draw(self, frame.area(), frame.buffer_mut());
        if let Some(position) = view::cursor(self, frame.area()) {
            frame.set_cursor_position(position);
        }
    }

    fn needs_ticks(&self) -> bool {
        // Every row shows an age.
        true
    }
}

impl TopApp {
    fn handle_message(&mut self, message: Message) {
        match message {
            Message::Polled(stats, list) => self.set_polled(*stats, list),
            Message::Unreachable(why) => {
                let since = match self.server_state {
                    ServerState::Lost(since, _) => since,
                    ServerState::Connecting | ServerState::Live(_) => self.now,
                };
                self.server_state = ServerState::Lost(since, why);
            }
            Message::Detail(tab, key, lines) => {
                if let Overlay::Detail(detail) = &mut self.overlay
                    && tab == self.tab
                    && detail.key == key
                {
                    detail.lines = Some(lines);
                }
            }
            Message::Executed(outcome) => {
                let (text, is_good) = match outcome {
                    Ok(text) => (text, true),
                    Err(text) => (text, false),
                };
                self.notice = Some(Notice { text, is_good, at: self.now });
            }
        }
    }

    fn set_polled(&mut self, stats: Stats, list: List) {
        if let Some((before, then)) = &self.stats {
            self.rates.push((before, *then), (&stats, self.now));
        }
        self.stats = Some((stats, self.now));
        self.server_state = ServerState::Live(self.now);
        let tab = list.tab();
        self.tab_state_of(tab).list = Some(list);
        self.clamp();
    }

    fn handle_key(&mut self, key: KeyEvent) -> Vec<Effect> {
        match &self.overlay {
            Overlay::Filter { .. } => return self.filter_key(key),
            Overlay::Confirm(action) => {
                let action = action.clone();
                return self.confirm_key(key, action);
            }
            Overlay::Detail(_) | Overlay::Help(_) | Overlay::None => {}
        }
        if let Some(effect) = Effect::of_control(key) {
            return vec![effect];
        }
        match (keys::action(key), &self.overlay) {
            (None, _) => Vec::new(),
            (Some(action), Overlay::None) => self.act(action),
            (Some(Action::Quit | Action::Close | Action::Open | Action::Help), _) => {
                self.overlay = Overlay::None;
                vec![Effect::Draw]
            }
            (Some(action), _) => self.scroll(action),
        }
    }

    /// Only `y` confirms, so that a key that was meant for the list confirms nothing.
    fn confirm_key(&mut self, key: KeyEvent, action: AdminAction) -> Vec<Effect> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let effects = match key.code {
            KeyCode::Char('c') if control => return vec![Effect::Interrupt],
            KeyCode::Char('y') if !control => vec![Effect::Draw, Effect::Request(Request::Execute(action))],
            KeyCode::Char('n' | 'q') | KeyCode::Esc => vec![Effect::Draw],
            _ => return Vec::new(),
        };
        self.overlay = Overlay::None;
        effects
    }

    fn filter_key(&mut self, key: KeyEvent) -> Vec<Effect> {
        let Overlay::Filter { line, before } = &mut self.overlay else { return Vec::new() };
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return vec![Effect::Interrupt],
            KeyCode::Enter => self.overlay = Overlay::None,
            KeyCode::Esc => {
                let before = std::mem::take(before);
                self.overlay = Overlay::None;
                self.tab_state_mut().filter = before;
            }
            KeyCode::Up => self.move_selection(-1),
            KeyCode::Down => self.move_selection(1),
            _ if line.handle_key(key) => self.filter_as_typed(),
            _ => return Vec::new(),
        }
        self.clamp();
        vec![Effect::Draw]
    }

    fn paste(&mut self, text: &str) -> Vec<Effect> {
        let Overlay::Filter { line, .. } = &mut self.overlay else { return Vec::new() };
        line.paste(text);
        self.filter_as_typed();
        self.clamp();
        vec![Effect::Draw]
    }

    /// Applies the filter as it is typed, before Enter keeps it.
    fn filter_as_typed(&mut self) {
        if let Overlay::Filter { line, .. } = &self.overlay {
            let text = line.text().to_owned();
            self.tab_state_mut().filter = text;
        }
    }

    fn act(&mut self, action: Action) -> Vec<Effect> {
        match action {
            Action::Quit => return vec![Effect::Quit],
            Action::Move(rows) => self.move_selection(rows),
            Action::Pages(pages) => self.move_selection(pages * self.body_rows().max(1).cast_signed()),
            Action::First => {
                let page = self.tab_state_mut();
                (page.selected, page.place, page.offset) = (None, 0, 0);
            }
            Action::Last => self.move_selection(isize::MAX),
            Action::Tab(place) => return self.switch_to(Tab::all()[place]),
            Action::TabBy(by) => {
                let count = Tab::all().len().cast_signed();
                let place = (self.tab.index().cast_signed() + by).rem_euclid(count);
                return self.switch_to(Tab::all()[place.unsigned_abs()]);
            }
            Action::SortBy(by) => {
                let count = columns(self.tab).len().cast_signed();
                let page = self.tab_state_mut();
                page.sort = (page.sort.cast_signed() + by).rem_euclid(count).unsigned_abs();
                page.is_reversed = false;
            }
            Action::Reverse => {
                let page = self.tab_state_mut();
                page.is_reversed = !page.is_reversed;
            }
            Action::Filter => {
                let before = self.tab_state().filter.clone();
                self.overlay = Overlay::Filter { line: TextInput::new(before.clone()), before };
            }
            Action::Open => return self.open(),
            Action::Kick => return self.ask_to_confirm(|action| matches!(action, AdminAction::Kick { .. })),
            Action::Replay => return self.ask_to_confirm(|action| matches!(action, AdminAction::Replay { .. })),
            Action::Help => self.overlay = Overlay::Help(0),
            Action::Close => self.tab_state_mut().filter.clear(),
        }
        self.clamp();
        vec![Effect::Draw]
    }

    fn switch_to(&mut self, tab: Tab) -> Vec<Effect> {
        self.tab = tab;
        self.clamp();
        vec![Effect::Draw, Effect::Request(Request::Poll(tab))]
    }

    fn open(&mut self) -> Vec<Effect> {
        let rows = self.rows();
        let Some(row) = rows.get(self.selection(&rows)) else { return Vec::new() };
        let key = row.key.clone();
        let lines = details::from_list(self, row);
        // Details that the list does not contain are fetched from the server.
        let request = lines.is_none().then(|| Effect::Request(Request::Detail(self.tab, key.clone())));
        self.overlay = Overlay::Detail(DetailView { key, lines, top: 0 });
        [Effect::Draw].into_iter().chain(request).collect()
    }

    fn ask_to_confirm(&mut self, is_of_key: impl Fn(&AdminAction) -> bool) -> Vec<Effect> {
        match self.admin_action().filter(is_of_key) {
            Some(action) => {
                self.overlay = Overlay::Confirm(action);
                vec![Effect::Draw]
            }
            None => Vec::new(),
        }
    }

    /// Scrolls the overlay.
    fn scroll(&mut self, action: Action) -> Vec<Effect> {
        let (width, page) = (self.size.0, self.body_rows().max(1));
        let by = match action {
            Action::Move(rows) => rows,
            Action::Pages(pages) => pages * page.cast_signed(),
            Action::First => isize::MIN,
            Action::Last => isize::MAX,
            _ => return Vec::new(),
        };
        let (at, rows) = match &mut self.overlay {
            Overlay::Detail(detail) => {
                let rows = view::detail_rows(detail, width);
                (&mut detail.top, rows)
            }
            Overlay::Help(at) => (at, keys::help(self.read_only).count()),
            Overlay::None | Overlay::Filter { .. } | Overlay::Confirm(_) => return Vec::new(),
        };
        *at = at.saturating_add_signed(by).min(rows.saturating_sub(page + 1));
        vec![Effect::Draw]
    }

    /// Moves the selection by this many rows. It follows its row from then on, wherever the row moves.
    fn move_selection(&mut self, by: isize) {
        let rows = self.rows();
        if rows.is_empty() {
            return;
        }
        let place = self.selection(&rows).saturating_add_signed(by).min(rows.len() - 1);
        let page = self.tab_state_mut();
        page.selected = Some(rows[place].key.clone());
        self.clamp_to(&rows);
    }

    /// Restores the invariants after a change: the selected row exists and is on the screen.
    fn clamp(&mut self) {
        let rows = self.rows();
        self.clamp_to(&rows);
        let (width, page) = (self.size.0, self.body_rows().max(1));
        if let Overlay::Detail(detail) = &mut self.overlay {
            detail.top = detail.top.min(view::detail_rows(detail, width).saturating_sub(page + 1));
        }
    }

    fn clamp_to(&mut self, rows: &[TableRow]) {
        let (place, body) = (self.selection(rows), self.body_rows().max(1));
        let page = self.tab_state_mut();
        if page.selected.is_some() && !rows.is_empty() {
            page.selected = rows.get(place).map(|row| row.key.clone());
        }
        page.place = place;
        page.offset = page.offset.clamp((place + 1).saturating_sub(body), place).min(rows.len().saturating_sub(body));
    }
}
