//! Search, filter, speakers.

use super::*;

fn talk() -> Test {
    let mut test = Test::new(80, 12);
    test.confirmed();
    for round in 0..20 {
        test.turn("agent", &format!("question {round}")).turn("user", &format!("Answer {round} about the TRUCK"));
        test.turn("tool", &format!("lookup {round}"));
    }
    test
}

#[test]
fn a_search_goes_from_match_to_match_and_around_the_ends() {
    let mut test = talk();
    test.keys("g/question 1⏎");
    assert_eq!((test.selected().as_str(), test.follows()), ("question 1", false));
    assert!(test.footer().starts_with("PAUSED  52 below  1 of 11 found"), "{}", test.footer());
    test.keys("n");
    assert_eq!(test.selected(), "question 10");
    test.keys("NN");
    assert_eq!(test.selected(), "question 19", "around the beginning");
    test.keys("n");
    assert_eq!(test.selected(), "question 1", "around the end");
}

#[test]
fn a_search_looks_at_what_comes_later_too() {
    let mut test = talk();
    test.keys("/dog⏎");
    assert!(test.footer().starts_with("not found: dog"));
    assert!(test.follows(), "a search that finds nothing moves nothing");
    test.turn("user", "and the dog?").keys("n");
    assert_eq!(test.selected(), "and the dog?");
    assert!(test.footer().contains("1 of 1 found"));
}

#[test]
fn found_words_are_marked_where_they_stand() {
    let mut test = talk();
    test.keys("/truck⏎");
    let painted = test.painted();
    let lines: Vec<&str> = painted.lines().collect();
    let row = lines.iter().position(|line| line.ends_with("TRUCK")).unwrap();
    let (text, style) = (lines[row], lines[row + 1]);
    assert_eq!(style.find('%'), text.find("TRUCK"));
    assert_eq!(style.matches('%').count(), 5, "{text}\n{style}");
}

#[test]
fn an_opened_search_can_be_taken_back() {
    let mut test = talk();
    test.keys("/question 3⏎/");
    test.key(KeyCode::Esc);
    test.keys("n");
    assert_eq!(test.selected(), "question 3", "the search before still counts");
    test.keys("/⏎n");
    assert!(test.footer().starts_with("nothing was searched for"), "{}", test.footer());
}

#[test]
fn a_filter_shows_what_matches_and_keeps_the_breaks() {
    let mut test = talk();
    test.retry(1, 1).keys("&answer 1⏎");
    let body = test.body();
    assert_eq!(body.len(), 8);
    assert!(body[..7].iter().all(|row| row.contains("Answer 1")), "{body:?}");
    assert!(body[7].contains("connection lost"));
    assert!(test.footer().contains("&answer 1"));
    test.turn("user", "nothing of the kind").turn("user", "Answer 1 again");
    assert!(test.body().last().unwrap().ends_with("Answer 1 again"));
    test.keys("&");
    assert!(test.footer().starts_with("show only: answer 1"), "it can be changed");
    test.put(Input::Key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL)));
    test.keys("⏎");
    assert!(test.body().iter().any(|row| row.ends_with("nothing of the kind")));
}

#[test]
fn a_filter_stays_at_what_is_selected() {
    let mut test = talk();
    test.keys("/answer 5⏎&answer⏎");
    assert_eq!(test.selected(), "Answer 5 about the TRUCK");
    test.keys("&");
    test.put(Input::Key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL)));
    test.keys("⏎");
    assert_eq!(test.selected(), "Answer 5 about the TRUCK");
}

#[test]
fn a_search_under_a_filter_stays_within_it() {
    let mut test = talk();
    test.keys("&question⏎/1⏎");
    for _ in 0..15 {
        test.keys("n");
        assert!(test.selected().starts_with("question 1"), "{}", test.selected());
    }
}

#[test]
fn speakers_are_left_out_and_let_in_again() {
    let mut test = talk();
    test.keys("13");
    assert!(test.body().iter().all(|row| row.contains(" user ")), "{:?}", test.body());
    assert!(test.footer().contains("no agent  no tool"), "{}", test.footer());
    test.keys("2");
    assert_eq!(test.body(), ["no turn matches"]);
    test.keys("123");
    assert_eq!(test.body().last().unwrap(), "03:56         tool  lookup 19");
}

#[test]
fn what_no_expression_is_can_be_searched_for() {
    let mut test = talk();
    test.turn("user", "a (strange) [thing").keys("/[thing⏎");
    assert_eq!(test.selected(), "a (strange) [thing");
}

#[test]
fn a_hit_far_down_in_a_long_turn_is_brought_into_view() {
    let mut test = Test::new(40, 12);
    test.confirmed().turns(3);
    let words = "word ".repeat(200);
    test.turn("agent", &format!("ALPHA {words} TANGO {words} ZULU")).turns(3);
    test.keys("/TANGO⏎");
    assert!(test.body().iter().any(|row| row.contains("TANGO")), "{:?}", test.body());
    assert!(test.footer().contains("1 of 1"), "{}", test.footer());
    // One turn has three matches: `n` and `N` go through them, and then around the ends.
    test.keys("/alpha|tango|zulu⏎");
    let at = |test: &Test| ["ALPHA", "TANGO", "ZULU"].map(|hit| test.body().iter().any(|row| row.contains(hit)));
    test.keys("gn");
    assert_eq!(at(&test), [true, false, false]);
    for expected in [[false, true, false], [false, false, true]] {
        test.keys("n");
        assert_eq!(at(&test), expected);
    }
    for expected in [[false, true, false], [true, false, false], [false, false, true]] {
        test.keys("N");
        assert_eq!(at(&test), expected);
    }
}

#[test]
fn a_letter_is_found_and_marked_whole_however_it_is_written() {
    let mut test = Test::new(80, 14);
    let apart = "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}\u{110b}\u{1165}";
    test.confirmed().turn("user", &format!("{apart} Zu\u{308}rich"));
    for typed in ["한국어", apart, "zürich", "zu\u{308}rich"] {
        test.keys("/").put(Input::Paste(typed.into()));
        test.keys("⏎");
        assert!(test.footer().contains("1 of 1 found"), "{typed}: {}", test.footer());
    }
}
