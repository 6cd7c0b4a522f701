//! Tests of [`super::App`] and of what is drawn of it.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use crossterm::event::KeyCode;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::exit::{Exit, Failure};
use crate::live::{Ending, Incoming};
use crate::tui::view;
use callscope_common::CallStatus;

const CALL: &str = "00000000-0000-0000-0000-000000000007";

struct Test {
    app: App,
    seq: i64,
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_unix_secs(1_790_855_000 + secs).unwrap()
}

impl Test {
    fn new(width: u16, height: u16) -> Self {
        let app = App::new(
            "http://127.0.0.1:8000".into(),
            vec!["EL_dispatch_1790855035".into()],
            false,
            (width, height),
            at(0),
        );
        Self { app, seq: 0 }
    }

    fn live(&mut self, update: Update) -> &mut Self {
        let place = Place { seq: self.seq, call_id: CALL.parse().ok() };
        self.app
            .update(Input::World(Live { call: 0, shown: vec![update], start: Some(at(0)), place }), at(self.seq * 4));
        self
    }

    fn say(&mut self, raw: String) -> &mut Self {
        let message = ServerMessage::parse(&raw).unwrap();
        self.live(Update::Message(Incoming { seq: message.seq(), raw, message }))
    }

    fn confirmed(&mut self) -> &mut Self {
        self.say(format!(
            r#"{{"type":"subscription_confirmed","identifier":"a","call_sid":"a","conversation_id":null,
            "status":"in_progress","message":"","call_id":"{CALL}","seq":0}}"#
        ))
    }

    fn turn(&mut self, speaker: &str, text: &str) -> &mut Self {
        let time = at(self.seq * 4);
        self.seq += 1;
        let (seq, text) = (self.seq, serde_json::to_string(text).unwrap());
        self.say(format!(
            r#"{{"type":"transcription","conversation_id":null,"call_sid":"a","transcription_id":1,"sequence_number":{seq},
            "speaker_type":"{speaker}","message_text":{text},"timestamp":"{time}","seq":{seq}}}"#
        ))
    }

    fn partial(&mut self, text: &str) -> &mut Self {
        let time = at(self.seq * 4);
        self.say(format!(
            r#"{{"type":"transcription_partial","conversation_id":null,"call_sid":"a","speaker_type":"user",
            "message_text":"{text}","timestamp":"{time}","turn_id":"t"}}"#
        ))
    }

    fn key(&mut self, code: KeyCode) -> Vec<Effect> {
        self.app.update(Input::Key(code.into()), self.app.now)
    }

    fn retry(&mut self, attempt: u32, secs: u64) -> &mut Self {
        let reason = "connection refused".into();
        self.live(Update::Reconnecting { attempt, delay: Duration::from_secs(secs), reason, broke: true })
    }

    fn state(&self) -> String {
        self.app.calls[0].state(self.app.now)
    }

    fn screen(&self) -> Vec<String> {
        let (width, height) = self.app.size;
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view::draw(&self.app, frame.area(), frame.buffer_mut())).unwrap();
        let buffer = terminal.backend().buffer();
        (0..height).map(|y| row(buffer, y, width)).collect()
    }
}

/// A row as a terminal shows it: the cell behind a wide character has nothing of its own.
fn row(buffer: &ratatui::buffer::Buffer, y: u16, width: u16) -> String {
    let mut text = String::new();
    let mut skip = 0;
    for x in 0..width {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        let symbol = buffer[(x, y)].symbol();
        skip = unicode_width::UnicodeWidthStr::width(symbol).saturating_sub(1);
        text.push_str(symbol);
    }
    text.trim_end().to_owned()
}

fn call_with_turns(height: u16, turns: usize) -> Test {
    let mut test = Test::new(80, height);
    test.confirmed();
    for turn in 0..turns {
        test.turn("agent", &format!("turn {turn}"));
    }
    test
}

#[test]
fn the_end_is_followed_until_someone_scrolls_up() {
    let mut test = call_with_turns(14, 30);
    assert_eq!((test.app.top, test.app.follow), (20, true));
    test.key(KeyCode::Up);
    assert_eq!((test.app.top, test.app.follow), (19, false));
    test.turn("user", "new").turn("user", "newer");
    assert_eq!((test.app.top, test.app.new_below), (19, 2));
    assert!(test.screen()[13].starts_with("PAUSED  2 new below"), "{:?}", test.screen());
    test.key(KeyCode::Char('G'));
    assert_eq!((test.app.top, test.app.follow, test.app.new_below), (22, true, 0));
}

#[test]
fn scrolling_down_to_the_end_follows_again() {
    let mut test = call_with_turns(14, 30);
    test.key(KeyCode::PageUp);
    test.key(KeyCode::PageDown);
    assert!(test.app.follow);
    test.key(KeyCode::Char('g'));
    assert_eq!(test.app.top, 0);
    test.key(KeyCode::Char('f'));
    assert_eq!((test.app.top, test.app.follow), (20, true));
}

#[test]
fn what_fits_needs_no_scrolling() {
    let mut test = call_with_turns(14, 3);
    test.key(KeyCode::Up);
    assert!(test.app.follow);
}

#[test]
fn a_narrower_screen_keeps_the_turn_at_its_top() {
    let mut test = Test::new(80, 14);
    for turn in 0..30 {
        test.turn("agent", &format!("turn {turn} {}", "word ".repeat(12)));
    }
    test.key(KeyCode::Char('g'));
    test.key(KeyCode::PageDown);
    let shown = |test: &Test| test.screen()[3].clone();
    let before = shown(&test);
    test.app.update(Input::Resize(60, 14), at(0));
    assert_eq!(shown(&test).get(..20), before.get(..20));
}

#[test]
fn the_connection_is_told_in_words() {
    let mut test = Test::new(80, 14);
    assert_eq!(test.state(), "CONNECTING");
    test.live(Update::Ready(Place::default()));
    assert_eq!(test.state(), "WAITING");
    test.confirmed();
    assert_eq!(test.state(), "LIVE");
    test.retry(2, 4);
    assert_eq!(test.state(), "RETRY 2 in 4s");
    let later = test.app.now.plus_secs(3);
    test.app.update(Input::Tick, later);
    assert_eq!(test.state(), "RETRY 2 in 1s");
    test.live(Update::Resumed(Place { seq: 12, call_id: CALL.parse().ok() }));
    assert_eq!(test.state(), "LIVE");
    assert!(test.screen().iter().any(|row| row.contains("resumed after seq 12, nothing missed")));
}

#[test]
fn one_break_is_one_line() {
    let mut test = Test::new(80, 14);
    test.confirmed().retry(1, 1).retry(2, 1).retry(3, 1);
    assert_eq!(test.screen().iter().filter(|row| row.contains("connection lost")).count(), 1);
}

#[test]
fn what_is_being_spoken_is_replaced_until_it_is_said() {
    let mut test = Test::new(80, 14);
    test.confirmed().partial("my car").partial("my car is");
    assert_eq!(test.app.rows(), 1);
    assert!(test.screen()[3].ends_with("my car is"));
    test.turn("user", "my car is dead");
    assert_eq!(test.app.rows(), 1);
    assert!(test.screen()[3].ends_with("my car is dead"));
}

#[test]
fn the_end_shows_result_and_summary() {
    let mut test = Test::new(80, 14);
    test.confirmed().turn("agent", "bye");
    test.say(
        r#"{"type":"call_completed","conversation_id":null,"call_sid":"a","seq":2,"call_data":{"status":"completed",
        "call_successful":true,"duration_seconds":41,"cost":74,"transcript_summary":"A truck was sent."}}"#
            .into(),
    );
    let place = Place { seq: 2, call_id: None };
    test.live(Update::Ended(Ending { reason: EndReason::CallEnded, status: Some(CallStatus::Completed), place }));
    let screen = test.screen();
    assert!(screen[0].ends_with("ENDED completed"), "{screen:?}");
    assert_eq!(screen[4], "-- call completed, successful; 00:41; 74 credits");
    assert_eq!(screen[5], "-- A truck was sent.");
    assert!(!test.app.moves(), "nothing moves any more");
}

#[test]
fn a_stream_that_stopped_says_why_and_what_to_do() {
    let mut test = Test::new(80, 14);
    let failure = Failure::new(Exit::StreamLost, "an admin ended the connection").hint("ask them");
    let ending = Ending { reason: EndReason::Failed(failure), status: None, place: Place::default() };
    test.confirmed().live(Update::Ended(ending));
    let screen = test.screen();
    assert!(screen[0].ends_with("STOPPED"));
    assert!(screen[3].contains("an admin ended") && screen[4].contains("ask them"), "{screen:?}");
}

#[test]
fn a_log_that_starts_over_replaces_what_was_shown() {
    let mut test = call_with_turns(14, 5);
    test.live(Update::Gap(Gap::CursorInvalid { after: 5 }));
    assert_eq!(test.app.entries.len(), 1);
    assert_eq!(test.app.entries[0].kind, Kind::Note);
}

#[test]
fn keys_leave_and_help() {
    let mut test = call_with_turns(14, 1);
    assert_eq!(test.key(KeyCode::Char('q')), [Effect::Quit]);
    let interrupt = crossterm::event::KeyEvent::new(KeyCode::Char('c'), crossterm::event::KeyModifiers::CONTROL);
    assert_eq!(test.app.update(Input::Key(interrupt), at(0)), [Effect::Interrupt]);
    test.key(KeyCode::Char('?'));
    assert!(test.screen().iter().any(|row| row.contains("scroll a page")));
    test.key(KeyCode::Esc);
    assert!(test.screen()[3].ends_with("turn 0"));
}

#[test]
fn hostile_text_and_wide_emoji_stay_in_their_rows() {
    let mut test = Test::new(40, 12);
    test.confirmed()
        .turn("agent", "Grüezi 👩\u{200d}🚒 🇨🇭 \u{202e}dlrow\u{1b}[2J\u{7} 東京東京東京東京東京")
        .turn("user", &"x".repeat(60));
    assert_eq!(
        test.screen(),
        [
            "EL_dispatch_1790855035              LIVE",
            "http://127.0.0.1:8000       seq 2  00:08",
            "────────────────────────────────────────",
            "00:00 agent Grüezi 👩 CH dlrow\u{fffd}\u{fffd} 東京東",
            "            京東京東京東京",
            "00:04  user  xxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "             xxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "             xxxxxx",
            "",
            "",
            "",
            "following                 ? help  q quit",
        ]
    );
}

#[test]
fn a_common_screen() {
    let mut test = Test::new(80, 24);
    test.confirmed().turn("agent", "Road assistance, hello.").turn("user", "My car won't start.");
    test.turn("tool", "find_truck {\"place\":\"A10\"}");
    let screen = test.screen();
    assert_eq!(screen[0], format!("EL_dispatch_1790855035{}LIVE", " ".repeat(54)));
    assert_eq!(
        screen[3..6],
        [
            "00:00 agent Road assistance, hello.",
            "00:04     user  My car won't start.",
            "00:08         tool  find_truck {\"place\":\"A10\"}",
        ]
    );
    assert_eq!(screen[23], "following                                    ↑↓ scroll  f follow  ? help  q quit");
}

#[test]
fn a_screen_too_small_says_so() {
    for (width, height) in [(39, 12), (40, 11), (1, 1), (10, 2)] {
        let screen = Test::new(width, height).screen();
        assert!("too small".starts_with(screen[0].get(..9).unwrap_or(&screen[0])), "{screen:?}");
    }
    assert!(Test::new(40, 12).screen()[0].ends_with("CONNECTING"));
}

#[test]
fn any_text_at_any_size_is_drawn() {
    let texts = [
        "",
        "👨\u{200d}👩\u{200d}👧\u{200d}👦".repeat(50).leak(),
        "\u{301}\u{301}",
        "a\u{0}b",
        "नमस्ते दुनिया",
        "x".repeat(70_000).leak(),
    ];
    for width in [40, 41, 60, 133] {
        let mut test = Test::new(width, 12);
        for text in texts {
            test.turn("tool", text).partial("half");
        }
        test.screen();
        test.key(KeyCode::Char('g'));
        assert_eq!(test.screen().len(), 12);
    }
}
