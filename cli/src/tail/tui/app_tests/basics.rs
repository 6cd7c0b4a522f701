//! Following, holding, selecting, the state of the connection, partial turns, results and overlays.

use super::*;
use crate::tail::tui::save::SavePart;

#[test]
fn the_end_is_followed_until_someone_goes_up() {
    let mut test = Test::new(80, 14);
    test.confirmed().turns(30);
    assert_eq!(test.body()[9], "01:56 agent turn 29");
    test.key(KeyCode::PageUp);
    let held = test.body();
    assert_eq!(held[0], "00:44 agent turn 11");
    test.turn("user", "new").turn("user", "newer");
    assert_eq!(test.body(), held, "what is held does not move");
    assert!(test.footer().starts_with("PAUSED  2 new below"), "{}", test.footer());
    test.key(KeyCode::Char('G'));
    assert!(test.follows() && test.body()[9].ends_with("newer"));
    assert!(test.footer().starts_with("following"));
}

#[test]
fn new_turns_that_were_seen_are_no_longer_new() {
    let mut test = Test::new(80, 14);
    test.confirmed().turns(30).keys("k");
    test.turns(12);
    assert!(test.footer().starts_with("PAUSED  12 new below"));
    test.key(KeyCode::PageDown);
    assert!(test.footer().starts_with("PAUSED  3 new below"), "{}", test.footer());
    test.key(KeyCode::PageUp);
    assert!(test.footer().starts_with("PAUSED  3 new below"), "{}", test.footer());
    test.key(KeyCode::PageDown);
    test.key(KeyCode::PageDown);
    assert!(test.follows(), "the end was reached");
}

#[test]
fn the_selection_goes_turn_by_turn_and_takes_the_screen_along() {
    let mut test = Test::new(80, 14);
    test.confirmed().turns(30).keys("kkk");
    assert_eq!((test.selected().as_str(), test.follows()), ("turn 26", false));
    test.keys("kkkkkkkkk");
    assert_eq!((test.selected().as_str(), test.body()[0].as_str()), ("turn 17", "01:08 agent turn 17"));
    test.keys("g");
    assert_eq!(test.body()[0], "00:00 agent turn 0");
    test.keys("j");
    assert_eq!(test.selected(), "turn 1");
    test.keys("f");
    assert!(test.follows() && test.selected() == "turn 29");
    test.keys("f");
    assert!(!test.follows());
}

#[test]
fn a_screen_that_is_not_full_is_held_too() {
    let mut test = Test::new(80, 14);
    test.confirmed().turns(3).keys("k");
    assert_eq!((test.selected().as_str(), test.follows()), ("turn 1", false));
    test.turn("agent", "new");
    assert_eq!(test.selected(), "turn 1");
    assert!(test.body()[3].ends_with("new"), "there was room for it");
    test.keys("jj");
    assert!(test.follows());
}

#[test]
fn a_turn_longer_than_the_screen_is_read_through() {
    let mut test = Test::new(40, 12);
    test.confirmed().turn("agent", &"word ".repeat(100)).turn("user", "after").keys("g");
    let first = test.body();
    test.keys("j");
    assert_eq!(test.body()[..7], first[1..], "one row on, in the same turn");
    assert!(test.selected().starts_with("word"));
    for _ in 0..40 {
        test.keys("j");
    }
    assert!(test.follows() && test.body()[7].ends_with("after"));
    test.keys("k");
    assert!(test.selected().starts_with("word"), "its beginning is far above, and it is selected");
}

#[test]
fn a_narrower_screen_keeps_the_turn_at_its_top() {
    let mut test = Test::new(80, 14);
    for turn in 0..30 {
        test.turn("agent", &format!("turn {turn} {}", "word ".repeat(12)));
    }
    test.keys("g");
    test.key(KeyCode::PageDown);
    let before = test.body()[0].clone();
    test.put(Input::Resize(60, 14));
    assert_eq!(test.body()[0].get(..20), before.get(..20));
    test.put(Input::Resize(1, 1));
    test.put(Input::Resize(80, 14));
    assert_eq!(test.body()[0], before);
}

#[test]
fn the_connection_is_told_in_words() {
    let mut test = Test::new(80, 14);
    assert_eq!(test.state(), "CONNECTING");
    test.live(Update::Ready(Place::default()));
    assert_eq!(test.state(), "WAITING");
    test.confirmed();
    assert_eq!(test.state(), "LIVE");
    test.live(Update::Quiet { secs: 30 });
    assert_eq!(test.state(), "STALE 30s");
    assert_eq!(test.later(12).state(), "STALE 42s");
    test.live(Update::Heard);
    assert_eq!(test.state(), "LIVE");
    test.retry(3, 4);
    assert_eq!(test.state(), "RETRY 3 in 4s");
    assert_eq!(test.later(3).state(), "RETRY 3 in 1s");
    assert_eq!(test.later(9).state(), "RETRY 3 in 0s");
    test.resumed();
    assert_eq!(test.state(), "LIVE");
    test.result().ended();
    assert_eq!(test.state(), "ENDED success");
}

#[test]
fn a_break_is_one_line_that_says_how_long_and_that_nothing_was_missed() {
    let mut test = Test::new(120, 14);
    test.confirmed().turns(2).retry(1, 1).retry(2, 1).retry(3, 2);
    assert_eq!(test.body()[2..], ["-- connection lost: connection refused"]);
    test.clock += 7;
    test.resumed().turn("user", "still there?");
    assert_eq!(
        test.body()[2..],
        [
            "-- connection lost for 7.0 s: connection refused; resumed after seq 2, nothing missed",
            "00:08     user  still there?"
        ]
    );
    test.retry(1, 1);
    assert_eq!(test.body().len(), 5, "another break has a line of its own");
}

#[test]
fn missing_events_are_named_and_a_log_that_starts_over_replaces_what_was_shown() {
    let mut test = Test::new(120, 14);
    test.confirmed().turns(5).live(Update::Gap(Gap::Hole { expected: 6, found: 8 }));
    assert_eq!(test.body()[5], "-- event 8 came where 6 was due; connecting again to get what is missing");
    test.live(Update::Gap(Gap::CursorInvalid { after: 5 }));
    assert_eq!(test.body().len(), 1, "{:?}", test.body());
    assert!(test.body()[0].contains("no such place behind seq 5"));
}

#[test]
fn what_is_being_said_is_replaced_until_it_is_said() {
    let mut test = Test::new(80, 14);
    test.confirmed().partial("user", "7", "my car").partial("user", "7", "my car is");
    assert_eq!(test.body(), ["00:00     user  my car is"]);
    test.partial("agent", "8", "one mo");
    assert_eq!(test.body().len(), 2, "both speak at once");
    test.turn("user", "my car is dead");
    assert_eq!(test.body(), ["00:00     user  my car is dead", "00:00 agent one mo"]);
    test.retry(1, 1);
    assert!(
        !test.body().iter().any(|row| row.contains("one mo")),
        "what a break cut off is not shown as if it went on"
    );
}

#[test]
fn a_stream_that_stopped_says_why_and_what_to_do() {
    let mut test = Test::new(80, 14);
    let failure = Failure::new(Exit::StreamLost, "an admin ended the connection").hint("ask them");
    let ending = Ending { reason: EndReason::Failed(failure), status: None, place: Place::default() };
    test.confirmed().live(Update::Ended(ending));
    assert_eq!(test.state(), "STOPPED");
    assert_eq!(test.body(), ["-- an admin ended the connection", "-- ask them"]);
    assert!(!test.app.needs_ticks(), "nothing moves any more");
}

#[test]
fn tool_calls_are_folded_until_they_are_opened() {
    let mut test = Test::new(60, 14);
    test.confirmed().turn("tool", &"find_truck(place: A10) ".repeat(6)).turn("agent", "found one").keys("g");
    assert_eq!(test.body().len(), 2);
    assert!(test.body()[0].ends_with('…'));
    test.keys("⏎");
    assert!(test.body().len() > 3, "{:?}", test.body());
    test.keys("⏎");
    assert_eq!(test.body().len(), 2);
}

#[test]
fn long_turns_are_cut_where_they_are_not_to_be_wrapped_and_times_change() {
    let mut test = Test::new(60, 14);
    test.confirmed().turn("agent", &"word ".repeat(30)).keys("w");
    assert_eq!(test.body().len(), 1);
    assert!(test.body()[0].ends_with('…'));
    test.keys("t");
    assert!(test.body()[0].starts_with("11:43:20 agent word"), "{:?}", test.body());
    test.keys("t");
    assert!(test.body()[0].starts_with("agent word"));
    test.keys("tw");
    assert_eq!(test.body().len(), 4);
}

#[test]
fn q_closes_what_lies_over_and_quits_only_at_the_root_and_esc_never_quits() {
    let mut test = Test::new(80, 24);
    test.confirmed().turns(2);
    for open in ["?", "d", "c"] {
        test.keys(open);
        assert_ne!(test.key(KeyCode::Char('q')).first(), Some(&Effect::Quit), "{open}");
        test.keys(open);
        assert_ne!(test.key(KeyCode::Esc).first(), Some(&Effect::Quit), "{open}");
    }
    for asked in ["/", "&", "s"] {
        test.keys(asked).keys("q");
        assert!(test.app.prompt.is_some(), "q is a letter here");
        test.key(KeyCode::Esc);
        assert!(test.app.prompt.is_none());
    }
    for _ in 0..5 {
        assert_eq!(test.key(KeyCode::Esc), [Effect::Draw]);
    }
    assert_eq!(test.key(KeyCode::Char('q'))[0], Effect::Quit);
    let control = |c| Input::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
    for (key, effect) in [('c', Effect::Interrupt), ('z', Effect::Suspend), ('l', Effect::Redraw)] {
        test.keys("/");
        assert_eq!(test.put(control(key))[0], effect, "also while something is asked");
        test.key(KeyCode::Esc);
    }
}

#[test]
fn the_turns_json_is_shown_as_it_came() {
    let mut test = Test::new(80, 24);
    test.confirmed().turn("user", "evil \u{202e}").keys("d");
    assert!(test.body().iter().any(|row| row.contains("\"message_text\": \"evil \\u202e\"")), "{:?}", test.body());
    test.keys("q").result().keys("d");
    assert!(test.body().iter().any(|row| row.contains("call_completed")), "a result's part shows the result");
    test.keys("q").retry(1, 1).keys("G").keys("d");
    assert!(test.footer().starts_with("no message stands behind this line"));
}

#[test]
fn a_copy_is_the_whole_turn_and_safe_to_paste() {
    let mut test = Test::new(40, 12);
    test.confirmed().turn("user", &format!("{}\u{1b}[2J 🇩🇪", "word ".repeat(30)));
    let Effect::Copy(copied) = test.key(KeyCode::Char('y')).remove(0) else { panic!("nothing is copied") };
    assert_eq!(copied, format!("{}\u{fffd} 🇩🇪", "word ".repeat(30)));
}

#[test]
fn a_save_asks_for_a_name_and_plays_again() {
    let mut test = Test::new(80, 12);
    test.confirmed().turns(2).result().keys("s");
    assert!(test.footer().contains("save as: callscope-EL_dispatch_1790855035.ndjson"));
    test.keys("⏎");
    let Some(Request::Save(SaveRequest { path, parts, .. })) = test.requests.pop() else { panic!("nothing is saved") };
    let [SavePart::Text(content)] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!(path, "callscope-EL_dispatch_1790855035.ndjson");
    let kinds: Vec<String> = content
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["transcription", "transcription", "call_completed"]);
    test.keys("s");
    test.put(Input::Key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL)));
    test.keys("x.txt⏎");
    let Some(Request::Save(SaveRequest { parts, .. })) = test.requests.pop() else { panic!("nothing is saved") };
    let [SavePart::Text(content)] = &parts[..] else { panic!("{parts:?}") };
    assert!(content.starts_with("00:00 agent  turn 0\n00:04 agent  turn 1\n-- call completed"), "{content}");
    test.put(Input::Message(Message::Saved(Err("not saved: File exists".into()))));
    assert!(test.footer().starts_with("not saved: File exists"));
}

#[test]
fn a_paste_is_no_row_of_keys() {
    let mut test = Test::new(80, 12);
    test.confirmed().turns(2);
    assert_eq!(test.put(Input::Paste("q".into())), [Effect::Draw]);
    test.keys("/");
    test.put(Input::Paste("turn\n1\u{1b}".into()));
    assert!(test.footer().starts_with("/turn 1\u{fffd}"), "{}", test.footer());
}

#[test]
fn a_recording_says_so_and_can_be_held() {
    let origin = Origin::Recording { file: "saved.ndjson".into(), speed: "4x".into() };
    let mut test = Test::new(80, 12);
    test.app = TailApp::new(origin, vec!["EL_a_1".into()], false, false, at(0));
    test.put(Input::Resize(80, 12));
    test.confirmed().turns(1);
    assert_eq!(test.state(), "PLAYING 4x");
    assert!(test.screen()[1].starts_with("recording saved.ndjson"));
    test.keys(" ");
    assert_eq!(test.requests, [Request::Pause], "nor is a server asked for anything");
    test.put(Input::Message(Message::Paused(true)));
    assert_eq!((test.state().as_str(), test.app.needs_ticks()), ("PAUSED", false));
    test.keys("c");
    assert!(test.footer().starts_with("a recording has no other calls"));
}
