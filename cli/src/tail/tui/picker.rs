//! Chooses a call from a list that typing narrows down. The selection stays with the call, not with its row.

use callscope_common::api::CallView;
use callscope_common::{CallId, CallStatus};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::render::format_utc;
use crate::term::text_input::TextInput;

#[derive(Debug, Default)]
pub(crate) struct CallPicker {
    /// The text that was typed.
    pub(crate) line: TextInput,
    /// Why the newest list could not be loaded.
    pub(crate) error: Option<String>,
    /// Whether a list was loaded.
    pub(crate) loaded: bool,
    calls: Vec<Candidate>,
    selected: Option<CallId>,
}

/// A call to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) id: CallId,
    pub(crate) sid: String,
    /// Whether the call has not ended.
    pub(crate) live: bool,
    pub(crate) status: CallStatus,
    /// When the call began, in words.
    pub(crate) started: String,
    pub(crate) turns: i64,
    /// The subject, the agent and other names.
    pub(crate) about: String,
}

/// The outcome of a key in the picker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PickerOutcome {
    /// The picker stays open.
    Stay,
    /// The call with this sid was chosen.
    Chosen(String),
    /// The picker is closed.
    Close,
}

impl From<&CallView> for Candidate {
    fn from(view: &CallView) -> Self {
        let names = [view.subject.as_deref(), view.agent_id.as_deref(), view.conversation_id.as_deref()];
        Self {
            id: view.call_id,
            sid: view.call_sid.clone(),
            live: !view.status.is_ended(),
            status: view.status,
            started: format_utc(view.created_at),
            turns: view.turns,
            about: names.into_iter().flatten().filter(|name| *name != view.call_sid).collect::<Vec<_>>().join(" "),
        }
    }
}

impl CallPicker {
    /// Takes in a new list of calls.
    pub(crate) fn list(&mut self, calls: Result<Vec<CallView>, String>) {
        self.loaded = true;
        match calls {
            Ok(calls) => {
                self.error = None;
                self.calls = calls.iter().map(Candidate::from).collect();
                // Live calls come first. The server lists the newest call first.
                self.calls.sort_by_key(|call| !call.live);
            }
            Err(why) => self.error = Some(why),
        }
    }

    /// Returns the calls that match what was typed, the best match first.
    pub(crate) fn shown(&self) -> Vec<&Candidate> {
        let mut scored: Vec<(u32, &Candidate)> = self
            .calls
            .iter()
            .filter_map(|call| {
                Some((score(self.line.text(), &format!("{} {} {}", call.sid, call.about, call.status))?, call))
            })
            .collect();
        scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        scored.into_iter().map(|(_, call)| call).collect()
    }

    /// Returns the index of the selected call in `shown`.
    pub(crate) fn place(&self, shown: &[&Candidate]) -> usize {
        shown.iter().position(|call| Some(call.id) == self.selected).unwrap_or(0)
    }

    pub(crate) fn key(&mut self, key: KeyEvent) -> PickerOutcome {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => {
                let shown = self.shown();
                return shown
                    .get(self.place(&shown))
                    .map_or(PickerOutcome::Stay, |call| PickerOutcome::Chosen(call.sid.clone()));
            }
            KeyCode::Esc if self.line.text().is_empty() => return PickerOutcome::Close,
            KeyCode::Esc => self.type_in(|line| *line = TextInput::default()),
            KeyCode::Char('q') if self.line.text().is_empty() && !control => return PickerOutcome::Close,
            KeyCode::Up => self.step(-1),
            KeyCode::Down => self.step(1),
            KeyCode::Char('p' | 'k') if control => self.step(-1),
            KeyCode::Char('n' | 'j') if control => self.step(1),
            KeyCode::PageUp => self.step(-10),
            KeyCode::PageDown => self.step(10),
            _ => self.type_in(|line| {
                line.handle_key(key);
            }),
        }
        PickerOutcome::Stay
    }

    pub(crate) fn paste(&mut self, text: &str) {
        self.type_in(|line| line.paste(text));
    }

    /// Changes the text. A changed text selects the best match.
    fn type_in(&mut self, change: impl FnOnce(&mut TextInput)) {
        let before = self.line.text().to_owned();
        change(&mut self.line);
        if self.line.text() != before {
            self.selected = None;
        }
    }

    fn step(&mut self, by: isize) {
        let shown = self.shown();
        let place = self.place(&shown).saturating_add_signed(by).min(shown.len().saturating_sub(1));
        self.selected = shown.get(place).map(|call| call.id);
    }
}

/// Scores how well `text` matches `typed`: the letters of each word must occur in order, and matches that are close
/// together or at the beginning of a word score higher. Returns `None` if a word does not match.
fn score(typed: &str, text: &str) -> Option<u32> {
    let text: Vec<char> = text.to_lowercase().chars().collect();
    typed.to_lowercase().split_whitespace().map(|word| word_score(word, &text)).sum()
}

fn word_score(word: &str, text: &[char]) -> Option<u32> {
    let letters: Vec<char> = word.chars().collect();
    (0..text.len())
        .filter(|start| text[*start] == letters[0])
        .filter_map(|start| run_score(&letters, text, start))
        .max()
}

fn run_score(letters: &[char], text: &[char], start: usize) -> Option<u32> {
    let begins = |place: usize| place == 0 || !text[place - 1].is_alphanumeric();
    let (mut place, mut score) = (start, 0);
    for (count, letter) in letters.iter().enumerate() {
        let found = place + text[place..].iter().position(|c| c == letter)?;
        score += if begins(found) { 8 } else { 1 };
        score += if count > 0 && found == place { 10 } else { 0 };
        place = found + 1;
    }
    Some(score)
}

#[cfg(test)]
#[path = "picker_tests.rs"]
mod tests;
