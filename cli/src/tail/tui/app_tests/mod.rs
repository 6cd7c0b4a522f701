//! Tests of [`super::TailApp`] and of what is drawn of it, in a small language of messages and keys.

mod basics;
mod eviction;
mod hostile;
mod screens;
mod search;
mod several;
mod size;

use std::time::Duration;

use callscope_common::CallStatus;
use crossterm::event::KeyModifiers;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr as _;

use super::*;
use crate::exit::{Exit, Failure};
use crate::stream::{CallUpdates, EndReason, Ending, Gap, Incoming, Place, Progress, Update};
use crate::tail::tui::save::SaveRequest;
use crate::term::event_loop::Model as _;

const CALL: &str = "00000000-0000-0000-0000-000000000007";

struct Test {
    app: TailApp,
    /// The seq of the newest event, by call.
    seqs: Vec<i64>,
    /// The number of the call that messages are about.
    call: usize,
    clock: i64,
    requests: Vec<Request>,
    /// The newest message.
    said: String,
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_unix_secs(1_790_855_000 + secs).unwrap()
}

impl Test {
    fn new(width: u16, height: u16) -> Self {
        Self::of(&["EL_dispatch_1790855035"], width, height)
    }

    fn of(identifiers: &[&str], width: u16, height: u16) -> Self {
        let names: Vec<String> = identifiers.iter().map(|name| (*name).to_owned()).collect();
        let origin = Origin::Server("http://127.0.0.1:8000".into());
        let app = TailApp::new(origin, names, false, true, at(0));
        let mut test = Self { app, seqs: vec![0; 200], call: 0, clock: 0, requests: Vec::new(), said: String::new() };
        test.put(Input::Resize(width, height));
        test
    }

    fn put(&mut self, input: Input<Message>) -> Vec<Effect> {
        let effects = self.app.update(input, at(self.clock));
        self.requests.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Request(request) => Some(request.clone()),
            _ => None,
        }));
        effects
    }

    fn live(&mut self, update: Update) -> &mut Self {
        let place = Place { call_id: CALL.parse().ok(), ..Place::after(self.seqs[self.call]) };
        let progress = Progress { start: Some(at(0)), place };
        let live = CallUpdates { call: self.call, updates: vec![update], progress };
        self.put(Input::Message(Message::Updates(vec![live])));
        self
    }

    fn say(&mut self, raw: &str) -> &mut Self {
        let raw = raw.replace('\n', " ");
        self.said.clone_from(&raw);
        self.live(Update::Message(Incoming::read(raw).unwrap()))
    }

    fn confirmed(&mut self) -> &mut Self {
        self.say(&format!(
            r#"{{"type":"subscription_confirmed","identifier":"a","call_sid":"a","conversation_id":null,
            "status":"in_progress","message":"","call_id":"{CALL}","seq":0}}"#
        ))
    }

    /// Adds a turn, four seconds after the one before.
    fn turn(&mut self, speaker: &str, text: &str) -> &mut Self {
        let time = at(self.seqs[self.call] * 4);
        self.seqs[self.call] += 1;
        self.clock = self.clock.max(self.seqs[self.call] * 4);
        let (seq, text) = (self.seqs[self.call], serde_json::to_string(text).unwrap());
        self.say(&format!(
            r#"{{"type":"transcription","conversation_id":null,"call_sid":"a","transcription_id":1,"sequence_number":{seq},
            "speaker_type":"{speaker}","message_text":{text},"timestamp":"{time}","seq":{seq}}}"#
        ))
    }

    fn turns(&mut self, count: usize) -> &mut Self {
        for turn in 0..count {
            self.turn("agent", &format!("turn {turn}"));
        }
        self
    }

    fn partial(&mut self, speaker: &str, turn: &str, text: &str) -> &mut Self {
        let time = at(self.seqs[self.call] * 4);
        let text = serde_json::to_string(text).unwrap();
        self.say(&format!(
            r#"{{"type":"transcription_partial","conversation_id":null,"call_sid":"a","speaker_type":"{speaker}",
            "message_text":{text},"timestamp":"{time}","turn_id":"{turn}"}}"#
        ))
    }

    fn retry(&mut self, attempt: u32, secs: u64) -> &mut Self {
        let reason = "connection refused".into();
        self.live(Update::Reconnecting { attempt, delay: Duration::from_secs(secs), reason, broke: true })
    }

    fn resumed(&mut self) -> &mut Self {
        let place = Place { call_id: CALL.parse().ok(), ..Place::after(self.seqs[self.call]) };
        self.live(Update::Resumed { place, proven: true })
    }

    fn ended(&mut self) -> &mut Self {
        let place = Place::after(self.seqs[self.call]);
        let status = Some(CallStatus::Completed);
        self.live(Update::Ended(Ending { reason: EndReason::CallEnded, status, place }))
    }

    fn result(&mut self) -> &mut Self {
        self.seqs[self.call] += 1;
        let seq = self.seqs[self.call];
        self.say(&format!(
            r#"{{"type":"call_completed","conversation_id":null,"call_sid":"a","seq":{seq},"call_data":{{"status":"completed",
            "call_successful":true,"duration_seconds":41,"cost":74,"transcript_summary":"A truck was sent.",
            "analysis_data":{{"evaluation_criteria_results":{{"safety_first":{{"result":"success","rationale":"Asked at once."}},
            "next_step":{{"result":"failure","rationale":null}}}},"data_collection_results":{{"place":{{"value":"A10"}}}}}}}}}}"#
        ))
    }

    fn key(&mut self, code: KeyCode) -> Vec<Effect> {
        self.put(Input::Key(code.into()))
    }

    /// Types the characters of `keys`; `⏎` is Enter.
    fn keys(&mut self, keys: &str) -> &mut Self {
        for c in keys.chars() {
            self.key(if c == '⏎' { KeyCode::Enter } else { KeyCode::Char(c) });
        }
        self
    }

    fn later(&mut self, secs: i64) -> &mut Self {
        self.clock += secs;
        self.put(Input::Tick);
        self
    }

    fn state(&self) -> String {
        self.app.state(self.app.tab().unwrap()).0
    }

    fn follows(&self) -> bool {
        self.app.tab().unwrap().transcript.follows()
    }

    fn selected(&self) -> String {
        self.app.tab().unwrap().transcript.selected().1.unwrap().text.to_string()
    }

    fn buffer(&self) -> Buffer {
        let (width, height) = self.app.size;
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| self.app.draw(frame)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn screen(&self) -> Vec<String> {
        let buffer = self.buffer();
        (0..buffer.area.height).map(|y| row(&buffer, y)).collect()
    }

    /// The rows of the transcript that are not empty.
    fn body(&self) -> Vec<String> {
        let screen = self.screen();
        let rows = &screen[self.app.header_rows().into()..screen.len() - 1];
        rows.iter().filter(|row| !row.is_empty()).cloned().collect()
    }

    fn footer(&self) -> String {
        self.screen().pop().unwrap()
    }

    /// The screen, with a letter for the style of each cell: the first letter of the colour, in upper case where it is
    /// bold; `,` dim, `#` reversed, `%` found, `.` plain.
    fn painted(&self) -> String {
        let buffer = self.buffer();
        let rows = (0..buffer.area.height).map(|y| {
            let styles: String = (0..buffer.area.width).map(|x| style(&buffer[(x, y)])).collect();
            format!("{}\n{}\n", row(&buffer, y), styles.trim_end_matches('.'))
        });
        rows.collect()
    }
}

/// A row as a terminal shows it: a wide character also takes the cell behind it.
fn row(buffer: &Buffer, y: u16) -> String {
    let mut text = String::new();
    let mut skip = 0;
    for x in 0..buffer.area.width {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        let symbol = buffer[(x, y)].symbol();
        skip = symbol.width().saturating_sub(1);
        text.push_str(symbol);
    }
    text.trim_end().to_owned()
}

fn style(cell: &Cell) -> char {
    let letter = match cell.fg {
        Color::Reset => '.',
        Color::Cyan => 'c',
        Color::Green => 'g',
        Color::Yellow => 'y',
        Color::Red => 'r',
        other => panic!("{other} is none of the colours"),
    };
    assert_eq!(cell.bg, Color::Reset, "the background is the terminal's own");
    match cell.modifier {
        modifier if modifier.contains(Modifier::REVERSED) => {
            if letter == 'y' {
                '%'
            } else {
                '#'
            }
        }
        modifier if modifier.contains(Modifier::DIM) => ',',
        modifier if modifier.contains(Modifier::BOLD) => {
            if letter == '.' {
                'B'
            } else {
                letter.to_ascii_uppercase()
            }
        }
        _ => letter,
    }
}
