//! What `top` draws, cell by cell, in common sizes.

use callscope_common::api::{Attempt, Stats};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use serde_json::json;

use super::message::{Errors, List, Message};
use super::state::TopApp;
use super::tab::Tab;
use super::top_tests::{at, call, connection, delivery, hear, press, top};
use super::view::draw;
use crate::term::event_loop::{Input, Model as _};

fn drawn(top: &mut TopApp, width: u16, height: u16) -> Buffer {
    let now = top.now;
    top.update(Input::Resize(width, height), now);
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    draw(top, area, &mut buffer);
    buffer
}

/// The rows of a buffer without trailing blanks.
fn rows(buffer: &Buffer) -> Vec<String> {
    (0..buffer.area.height)
        .map(|y| {
            let mut row = String::new();
            let mut skip = 0;
            for x in 0..buffer.area.width {
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                let symbol = buffer[(x, y)].symbol();
                skip = unicode_width::UnicodeWidthStr::width(symbol).saturating_sub(1);
                row.push_str(symbol);
            }
            row.trim_end().to_owned()
        })
        .collect()
}

fn stats() -> Stats {
    serde_json::from_value(json!({
        "version": "0.1.0", "uptime_seconds": 3700, "calls": {"in_progress": 1, "completed": 2}, "connections": 4,
        "followed_calls": 2, "deliveries": {"accepted": 40, "rejected": 1}, "unverified_deliveries": 2,
        "events_broadcast": 90,
    }))
    .unwrap()
}

fn busy() -> TopApp {
    let mut top = top(Tab::Calls);
    top.color = true;
    let calls = vec![
        call("EL_desk_1790855035", "in_progress", 12, 3),
        call("EL_desk_1790850000", "completed", 4000, 12),
        call("EL_desk_1790840000", "failed", 200_000, 0),
    ];
    let before = Stats { events_broadcast: 50, ..stats() };
    top.update(Input::Message(Message::Polled(Box::new(before), List::Calls(Vec::new()))), at(-2));
    top.update(Input::Message(Message::Polled(Box::new(stats()), List::Calls(calls))), at(0));
    top
}

#[test]
fn at_80x24() {
    let buffer = drawn(&mut busy(), 80, 24);
    let expected = [
        "http://calls.example                                                        LIVE",
        "1 live of 3 calls  4 connected  2 followed  41 deliveries  3 refused  up 1h 1m",
        "events/s 20.0 █           deliveries/s 0.0          refused/s 0.0",
        " 1 Calls   2 Connections   3 Subscriptions   4 Deliveries   5 Errors",
        "AGE▾     STATUS       TURNS  LENGTH   CALL                SUBJECT   AGENT",
        "12s      in_progress  3      00:12    EL_desk_1790855035",
        "1h 6m    completed    12              EL_desk_1790850000",
        "2d 7h    failed       0               EL_desk_1790840000",
    ];
    let rows = rows(&buffer);
    assert_eq!(rows[..8], expected);
    assert!(rows[8..23].iter().all(String::is_empty));
    assert_eq!(rows[23], format!("{:>80}", "Enter open  / filter  <> sort  ? help  q quit"));
}

#[test]
fn at_40x12() {
    let buffer = drawn(&mut busy(), 40, 12);
    let expected = [
        "http://calls.example                LIVE",
        "1 live of 3 calls  4 connected",
        "events/s 20.0 █",
        " 1 Cal  2 Con  3 Sub  4 Del  5 Err",
        "AGE▾     STATUS       CALL",
        "12s      in_progress  EL_desk_1790855035",
        "1h 6m    completed    EL_desk_1790850000",
        "2d 7h    failed       EL_desk_1790840000",
        "",
        "",
        "",
        "                          ? help  q quit",
    ];
    assert_eq!(rows(&buffer), expected);
}

#[test]
fn at_120x40() {
    let buffer = drawn(&mut busy(), 120, 40);
    let rows = rows(&buffer);
    assert_eq!(rows[1], "1 live of 3 calls  4 connected  2 followed  41 deliveries  3 refused  up 1h 1m  v0.1.0");
    assert_eq!(rows[4], "AGE▾     STATUS       TURNS  LENGTH   CALL                SUBJECT   AGENT");
    assert_eq!(rows[5], "12s      in_progress  3      00:12    EL_desk_1790855035");
}

#[test]
fn smaller_says_so() {
    assert_eq!(rows(&drawn(&mut busy(), 39, 12))[..2], ["too small: 39x12", "needs 40x12"]);
    assert_eq!(rows(&drawn(&mut busy(), 5, 1)), ["too s"]);
}

#[test]
fn styles_say_what_colours_do_and_colours_can_be_off() {
    let mut top = busy();
    let buffer = drawn(&mut top, 80, 24);
    let style = |buffer: &Buffer, x: u16, y: u16| buffer[(x, y)].style();
    assert_eq!(style(&buffer, 76, 0).fg, Some(Color::Green), "LIVE");
    assert!(style(&buffer, 1, 3).add_modifier.contains(Modifier::REVERSED), "the tab that is shown");
    assert!(style(&buffer, 0, 4).add_modifier.contains(Modifier::BOLD), "the column that is sorted by");
    assert!(style(&buffer, 9, 4).add_modifier.contains(Modifier::DIM), "another column");
    assert!((0..80).all(|x| style(&buffer, x, 5).add_modifier.contains(Modifier::REVERSED)), "the selected row, whole");
    assert_eq!(style(&buffer, 9, 7).fg, Some(Color::Red), "failed");
    assert!(!style(&buffer, 0, 6).add_modifier.contains(Modifier::REVERSED));
    top.color = false;
    let buffer = drawn(&mut top, 80, 24);
    for y in 0..24 {
        for x in 0..80 {
            assert!(matches!(buffer[(x, y)].fg, Color::Reset), "{x},{y}");
            assert!(matches!(buffer[(x, y)].bg, Color::Reset), "{x},{y}");
        }
    }
}

#[test]
fn a_question_stands_over_the_list_and_says_what_follows() {
    let mut top = top(Tab::Connections);
    hear(&mut top, List::Connections(vec![connection("ada", 0)]));
    press(&mut top, "K");
    let rows = rows(&drawn(&mut top, 80, 24));
    let text = rows.join("\n");
    assert!(text.contains("│ Kick ada (10.0.0.7:1234)?"), "{text}");
    assert!(text.contains("│ Its client does not come back by itself."), "{text}");
    assert!(text.contains("│ y yes   n no"), "{text}");
    assert!(rows[23].ends_with("y yes  n no"));
    let narrow = drawn(&mut top, 40, 12);
    assert!(super::view_tests::rows(&narrow).join("\n").contains("│ Kick ada (10.0.0.7:1234)?"));
}

#[test]
fn keys_that_change_something_are_absent_where_nothing_may_be_changed() {
    let mut top = top(Tab::Connections);
    hear(&mut top, List::Connections(vec![connection("ada", 0)]));
    assert!(rows(&drawn(&mut top, 80, 24))[23].contains("K kick"));
    press(&mut top, "?");
    assert!(rows(&drawn(&mut top, 80, 24)).join("\n").contains("kick the connection"));
    // Where there is no room for all of them, they scroll.
    assert!(!rows(&drawn(&mut top, 40, 12)).join("\n").contains("kick the connection"));
    press(&mut top, "G");
    let narrow = rows(&drawn(&mut top, 40, 12)).join("\n");
    assert!(narrow.contains("kick the connection") && narrow.contains("close what is open; quit"), "{narrow}");
    top.read_only = true;
    let text = rows(&drawn(&mut top, 80, 24)).join("\n");
    assert!(!text.contains("kick the connection") && !text.contains("replay the delivery"), "{text}");
    press(&mut top, "q");
    let text = rows(&drawn(&mut top, 80, 24)).join("\n");
    assert!(!text.contains("K kick") && text.contains("read-only"), "{text}");
}

#[test]
fn nothing_of_a_call_reaches_the_terminal_raw() {
    const HOSTILE: &str = "\x1b[2J\x1b]0;owned\x07\u{9b}31m\u{202e}evil\u{200b}\r\n\tx";
    let mut view = call("EL_a_1", "in_progress", 1, 1);
    view.call_sid = HOSTILE.into();
    view.subject = Some(HOSTILE.into());
    let mut who = connection("ada", 2);
    (who.username, who.remote_addr, who.node) = (HOSTILE.into(), HOSTILE.into(), HOSTILE.into());
    let mut came = delivery("x", "rejected");
    (came.reason, came.kind) = (Some(HOSTILE.into()), Some(HOSTILE.into()));
    let attempt = Attempt {
        at: at(-1),
        route: callscope_common::OrUnknown::read(HOSTILE.into()),
        remote_addr: Some(HOSTILE.into()),
        reason: HOSTILE.into(),
        diagnosis: None,
        node: String::new(),
    };
    for (tab, list, keys) in [
        (Tab::Calls, List::Calls(vec![view]), "⏎"),
        (Tab::Connections, List::Connections(vec![who]), "K"),
        (Tab::Connections, List::Connections(vec![]), "⏎"),
        (Tab::Deliveries, List::Deliveries(vec![came.clone()]), "R"),
        (Tab::Errors, List::Errors(Errors { rejected: vec![came], unverified: vec![attempt] }), "↓⏎"),
    ] {
        let mut top = top(tab);
        (top.server, top.context) = (HOSTILE.into(), Some(HOSTILE.into()));
        hear(&mut top, list);
        for keys in ["", keys] {
            press(&mut top, keys);
            let key = match &top.overlay {
                super::state::Overlay::Detail(detail) => detail.key.clone(),
                _ => String::new(),
            };
            let lines = vec![(HOSTILE.to_owned(), HOSTILE.to_owned())];
            top.update(Input::Message(Message::Detail(tab, key, lines)), at(0));
            top.update(Input::Message(Message::Executed(Err(HOSTILE.into()))), at(0));
            for (width, height) in [(40, 12), (120, 40)] {
                let buffer = drawn(&mut top, width, height);
                for cell in buffer.content() {
                    let bad = |c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{200b}');
                    assert!(!cell.symbol().chars().any(bad), "{tab:?}: {:?}", cell.symbol());
                }
            }
        }
    }
}

#[test]
fn wide_letters_and_emoji_leave_no_debris() {
    let mut view = call("EL_a_1", "in_progress", 1, 1);
    view.call_sid = "東京東京東京東京東京東京東京東京東京東京東京".into();
    let mut other = call("EL_b_1", "in_progress", 2, 1);
    other.call_sid = "👩\u{200d}🚒🇩🇪नमस्ते مرحبا".into();
    let mut top = top(Tab::Calls);
    hear(&mut top, List::Calls(vec![view, other]));
    let buffer = drawn(&mut top, 40, 12);
    let rows = rows(&buffer);
    assert!(rows[5].ends_with("…"), "{rows:?}");
    assert!(unicode_width::UnicodeWidthStr::width(rows[5].as_str()) <= 40, "{rows:?}");
    assert!(rows[6].contains("👩DEनमस्ते"), "{rows:?}");
}

#[test]
fn what_is_wrong_is_listed_with_its_reason() {
    let mut top = top(Tab::Errors);
    let attempt = Attempt {
        at: at(-3),
        route: callscope_common::api::WebhookRoute::PostCall.into(),
        remote_addr: Some("10.0.0.6:99".into()),
        reason: "signature_mismatch".into(),
        diagnosis: None,
        node: String::new(),
    };
    let stats = Stats { silent_nodes: vec!["n2".into()], ..stats() };
    let list = List::Errors(Errors { rejected: Vec::new(), unverified: vec![attempt] });
    top.update(Input::Message(Message::Polled(Box::new(stats), list)), at(0));
    let rows = rows(&drawn(&mut top, 80, 24));
    assert_eq!(rows[5], "0s       silent      n2            this server process does not answer");
    assert_eq!(rows[6], "3s       unverified  10.0.0.6:99   post-call: signature_mismatch");
}
