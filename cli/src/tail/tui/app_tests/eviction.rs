//! A call that is longer than what is held of it. A list of events plays the server and answers the requests.

use super::*;
use crate::tail::tui::event_pages;
use crate::tail::tui::save::SavePart;

const TEXT_LIMIT: usize = 40_000;

/// A call, and its events as the server stores them.
struct Long {
    test: Test,
    log: Vec<String>,
    /// How often events were requested.
    reloads: usize,
}

fn text(turn: usize) -> String {
    let long = "word ".repeat(turn % 40);
    format!("turn {turn}; {long}end {turn}.")
}

impl Long {
    fn new(turns: usize) -> Self {
        let mut test = Test::new(80, 24);
        test.app.text_limit = TEXT_LIMIT;
        test.confirmed();
        test.app.tabs[0].progress.place.call_id = CALL.parse().ok();
        let mut long = Self { test, log: Vec::new(), reloads: 0 };
        for turn in 0..turns {
            long.turn(turn);
        }
        long
    }

    fn turn(&mut self, turn: usize) {
        self.test.turn(["agent", "user", "tool"][turn % 3], &text(turn));
        let transcript = &self.test.app.tabs[0].transcript;
        self.log.push(self.test.said.clone());
        assert!(transcript.held() <= TEXT_LIMIT, "{} bytes", transcript.held());
    }

    /// Presses keys and answers the requests that result.
    fn keys(&mut self, keys: &str) {
        for c in keys.chars() {
            match c {
                '⇞' => self.test.key(KeyCode::PageUp),
                '⇟' => self.test.key(KeyCode::PageDown),
                '⏎' => self.test.key(KeyCode::Enter),
                c => self.test.key(KeyCode::Char(c)),
            };
            self.serve();
        }
    }

    fn serve(&mut self) {
        while let Some(request) = self.test.requests.pop() {
            match request {
                Request::Reload(target, ranges) => {
                    self.reloads += 1;
                    for range in ranges {
                        let events = self.events(range).map(|raw| raw.as_str().into()).collect();
                        self.test.put(Input::Message(Message::Reloaded(target.clone(), Ok(events))));
                    }
                    self.test.put(Input::Message(Message::Reloaded(target, Ok(Vec::new()))));
                }
                Request::Scan(target, scan, ranges) => {
                    let pattern = crate::tail::pattern::Pattern::new(&scan.text).unwrap();
                    let events = ranges.into_iter().flat_map(|range| self.events(range));
                    let found = events.flat_map(|raw| event_pages::matching(raw, &pattern)).collect();
                    self.test.put(Input::Message(Message::Scanned(target, scan, Ok(found))));
                }
                _ => {}
            }
        }
        let held = self.test.app.tabs[0].transcript.held();
        assert!(held <= TEXT_LIMIT, "{held} bytes");
    }

    fn events(&self, (after, to): (i64, i64)) -> impl Iterator<Item = &String> {
        let place = |seq: i64| usize::try_from(seq).unwrap();
        self.log[place(after)..place(to)].iter()
    }

    /// The numbers of the turns on the screen whose beginning is shown.
    fn shown(&self) -> Vec<usize> {
        let body = self.test.body();
        assert!(!body.iter().any(|row| row.ends_with('…') && !row.contains("word")), "all is there: {body:?}");
        let turns = body.iter().filter_map(|row| row.split_once("turn ")?.1.split_once(';'));
        turns.map(|(turn, _)| turn.parse().unwrap()).collect()
    }
}

#[test]
fn every_turn_is_seen_on_the_way_up_and_down_again() {
    let mut long = Long::new(400);
    assert!(long.test.app.tabs[0].transcript.entries()[0].is_evicted());
    let mut seen: std::collections::BTreeSet<usize> = long.shown().into_iter().collect();
    for _ in 0..200 {
        long.keys("⇞");
        seen.extend(long.shown());
    }
    assert_eq!(seen, (0..400).collect(), "every page follows on the one before");
    assert_eq!(long.shown()[0], 0);
    assert!(long.test.app.tabs[0].transcript.entries()[399].is_evicted(), "the other end is let go of");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..400 {
        long.keys("⇟");
        seen.extend(long.shown());
    }
    assert!(seen.contains(&399) && long.test.follows(), "{:?}", long.shown());
    assert!(long.reloads > 4, "it was read again");
}

#[test]
fn both_ends_single_steps_and_what_comes_meanwhile() {
    let mut long = Long::new(300);
    long.keys("g");
    assert_eq!(long.shown()[0], 0);
    for turn in 300..320 {
        long.turn(turn);
        long.serve();
    }
    assert_eq!(long.shown()[0], 0, "it stays where it is");
    assert!(long.test.footer().contains("new below"), "{}", long.test.footer());
    long.keys("jjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjkkkkkkkkkkk");
    assert!(!long.shown().is_empty());
    long.keys("G");
    assert_eq!(*long.shown().last().unwrap(), 319);
    assert!(long.test.follows());
}

#[test]
fn search_filter_folds_and_saving_are_of_the_whole_call() {
    let mut long = Long::new(300);
    long.keys("/turn 17;⏎");
    assert!(long.shown().contains(&17), "{:?}", long.test.body());
    assert!(long.test.footer().contains("1 of 1 found"), "{}", long.test.footer());
    long.keys("/turn (3|150|299);⏎");
    let mut found = Vec::new();
    for _ in 0..3 {
        long.keys("n");
        found.push(long.test.selected().split_once(';').unwrap().0.to_owned());
    }
    found.sort();
    assert_eq!(found, ["turn 150", "turn 299", "turn 3"]);
    long.keys("&turn \\d*77;⏎");
    assert_eq!(long.shown(), [77, 177, 277]);
    long.keys("&");
    long.test.put(Input::Key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL)));
    long.keys("⏎g");
    // The third turn is a tool's: it is folded, then unfolded, and still unfolded when it comes back into sight.
    long.keys("jj");
    let folded = long.test.body().len();
    long.keys("⏎Gg");
    assert!(long.test.body().len() >= folded && long.test.app.tabs[0].transcript.entries()[2].open);
    long.test.keys("s⏎");
    let Some(Request::Save(SaveRequest { parts, id, .. })) =
        long.test.requests.iter().rev().find(|request| matches!(request, Request::Save(SaveRequest { .. }))).cloned()
    else {
        panic!("nothing is saved")
    };
    assert_eq!(id, CALL);
    let mut saved = String::new();
    for part in &parts {
        match part {
            SavePart::Text(ready) => saved.push_str(ready),
            SavePart::Events(after, to) => {
                long.events((*after, *to)).for_each(|raw| saved.push_str(&format!("{raw}\n")))
            }
        }
    }
    assert!(parts.iter().any(|part| matches!(part, SavePart::Events(..))));
    assert_eq!(saved.lines().collect::<Vec<_>>(), long.log.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_read_again_is_said_and_tried_with_the_next_key() {
    let mut long = Long::new(300);
    long.test.keys("g");
    let Some(Request::Reload(target, _)) = long.test.requests.pop() else { panic!("nothing is asked for") };
    long.test.put(Input::Message(Message::Reloaded(target.clone(), Err("connection refused".into()))));
    assert!(long.test.footer().starts_with("not read again: connection refused"), "{}", long.test.footer());
    let again = long.test.requests.iter().any(|request| matches!(request, Request::Reload(..)));
    assert!(!again, "not again and again");
    assert!(long.test.body()[0].ends_with('…'), "{:?}", long.test.body());
    long.keys("k");
    assert_eq!(long.shown()[0], 0);
    // An answer to a request from before the transcript was cleared is dropped.
    long.test.live(Update::Gap(Gap::CursorInvalid { after: 300 }));
    long.test.put(Input::Message(Message::Reloaded(target, Ok(vec![long.log[0].as_str().into()]))));
    assert!(!long.test.body().concat().contains("turn 0"), "{:?}", long.test.body());
}

#[test]
fn a_turn_larger_than_all_that_is_held_is_shown() {
    let mut long = Long::new(3);
    long.test.turn("agent", &"x".repeat(3 * TEXT_LIMIT));
    assert!(long.test.body().iter().any(|row| row.ends_with("xxxx")));
    long.test.turn("agent", "after it");
    assert!(long.test.body().last().unwrap().ends_with("after it"));
    for partial in 0..200 {
        long.test.partial("user", &format!("id {partial}"), "so far");
    }
    assert!(long.test.app.tabs[0].transcript.len() < 60, "what is being said is bounded too");
}
