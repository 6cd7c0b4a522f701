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
