//! Tabs, the picker, and calls that appear by themselves.

use callscope_common::api::CallView;

use super::*;

fn view(number: u128, sid: &str, status: &str) -> CallView {
    let id = callscope_common::CallId::from_u128(number);
    serde_json::from_str(&format!(
        r#"{{"call_id":"{id}","call_sid":"{sid}","conversation_id":null,"identifiers":[],"status":"{status}","subject":"tow truck",
        "agent_id":"agent_7","metadata":null,"created_at":"2026-10-01T14:00:00Z","updated_at":"2026-10-01T14:00:00Z",
        "call_end_time":null,"seq":1,"turns":12,"has_audio":false,"call_data":null}}"#
    ))
    .unwrap()
}

#[test]
fn each_call_has_a_tab_that_says_what_waits_in_it() {
    let mut test = Test::of(&["EL_a_1", "EL_b_2"], 80, 14);
    test.confirmed().turn("agent", "in the first");
    test.call = 1;
    test.confirmed().turn("agent", "in the second").turn("user", "there");
    assert_eq!(test.body(), ["00:00 agent in the first"]);
    assert_eq!(test.screen()[2], " EL_a_1   EL_b_2 +2");
    test.key(KeyCode::Tab);
    assert_eq!(test.body(), ["00:00 agent in the second", "00:04     user  there"]);
    assert!(test.screen()[0].starts_with("EL_b_2"));
    assert_eq!(test.screen()[2], " EL_a_1   EL_b_2", "it was seen");
    test.retry(1, 1);
    test.key(KeyCode::BackTab);
    assert_eq!(test.screen()[2], " EL_a_1   EL_b_2 retry");
    test.key(KeyCode::BackTab);
    assert!(test.screen()[0].starts_with("EL_b_2"), "around the ends");
}

#[test]
fn a_tab_keeps_its_place_filter_and_search() {
    let mut test = Test::of(&["EL_a_1", "EL_b_2"], 80, 14);
    test.confirmed().turns(30).keys("g");
    test.call = 1;
    test.confirmed().turns(3);
    test.key(KeyCode::Tab);
    assert!(test.follows());
    test.keys("&turn 2⏎");
    test.key(KeyCode::Tab);
    assert_eq!((test.follows(), test.body()[0].as_str()), (false, "00:00 agent turn 0"));
    test.key(KeyCode::Tab);
    assert_eq!(test.body(), ["00:08 agent turn 2"]);
}

#[test]
fn closing_a_tab_leaves_its_call() {
    let mut test = Test::of(&["EL_a_1", "EL_b_2"], 80, 14);
    test.key(KeyCode::Tab);
    test.keys("x");
    assert_eq!(test.requests, [Request::Close(1)]);
    assert!(test.screen()[0].starts_with("EL_a_1"));
    test.call = 1;
    test.turn("agent", "said after it was closed");
    assert_eq!(test.app.tabs.len(), 1);
    test.keys("x");
    assert_eq!(test.requests.len(), 1, "the only one stays");
}

#[test]
fn without_a_name_a_call_is_picked() {
    let mut test = Test::of(&[], 80, 14);
    assert_eq!(test.requests, [Request::List]);
    assert!(test.body()[1].starts_with("asking the server"));
    let calls =
        vec![view(1, "EL_a_1", "in_progress"), view(2, "EL_b_2", "in_progress"), view(3, "EL_c_3", "completed")];
    test.put(Input::Message(Message::Calls(Ok(calls))));
    assert_eq!(test.body()[1], "live       10-01 14:00    12 turns  EL_a_1  tow truck agent_7");
    test.keys("b2⏎");
    assert_eq!(test.requests.pop(), Some(Request::Open("EL_b_2".into())));
    test.put(Input::Message(Message::Opened { call: 0, identifier: "EL_b_2".into(), wanted: true }));
    assert!(test.screen()[0].starts_with("EL_b_2"));
}

#[test]
fn an_only_live_call_needs_no_question() {
    let mut test = Test::of(&[], 80, 14);
    let calls = vec![view(1, "EL_a_1", "completed"), view(2, "EL_b_2", "initiated")];
    test.put(Input::Message(Message::Calls(Ok(calls))));
    assert_eq!(test.requests.pop(), Some(Request::Open("EL_b_2".into())));
}

#[test]
fn the_picker_asks_again_and_leads_to_a_tab_that_is_there() {
    let mut test = Test::of(&["EL_a_1", "EL_b_2"], 80, 14);
    test.keys("c");
    test.put(Input::Message(Message::Calls(Err("no answer".into()))));
    assert!(test.body()[1].starts_with("no answer"), "{:?}", test.body());
    test.requests.clear();
    test.later(1).later(1);
    assert_eq!(test.requests, [Request::List]);
    test.put(Input::Message(Message::Calls(Ok(vec![view(2, "EL_b_2", "in_progress")]))));
    assert_eq!(test.app.tabs.len(), 2, "with calls open, an only one is still asked for");
    test.keys("⏎");
    assert!(test.screen()[0].starts_with("EL_b_2"));
    assert_eq!(test.requests.len(), 1, "it is followed already");
    test.put(Input::Message(Message::Described(0, Box::new(view(9, "EL_other_name", "in_progress")))));
    test.keys("c");
    test.put(Input::Message(Message::Calls(Ok(vec![view(9, "EL_other_name", "in_progress")]))));
    test.keys("⏎");
    assert!(test.screen()[0].starts_with("EL_a_1"), "also under another of its names");
}

#[test]
fn a_picker_with_nothing_behind_it_is_left_by_q_and_not_by_esc() {
    let mut test = Test::of(&[], 80, 14);
    assert_eq!(test.key(KeyCode::Esc), [Effect::Draw]);
    assert!(matches!(test.app.overlay, Overlay::Picker(..)));
    assert_eq!(test.key(KeyCode::Char('q'))[0], Effect::Quit);
}

#[test]
fn calls_that_come_by_themselves_get_tabs_and_the_oldest_that_is_over_goes() {
    let mut test = Test::of(&[], 80, 14);
    test.app = TailApp::new(Origin::Server("s".into()), Vec::new(), true, false, at(0));
    test.put(Input::Resize(80, 14));
    assert_eq!(test.body(), ["waiting for a call"]);
    for call in 0..MAX_TABS {
        test.put(Input::Message(Message::Opened { call, identifier: format!("EL_{call}"), wanted: false }));
        assert_eq!(test.app.current, 0, "what is looked at stays");
    }
    for call in [0, 5] {
        test.call = call;
        test.ended();
    }
    test.put(Input::Message(Message::Opened { call: MAX_TABS, identifier: "EL_new".into(), wanted: false }));
    assert_eq!(test.requests.pop(), Some(Request::Close(5)), "the first is being looked at");
    assert_eq!(test.app.tabs.len(), MAX_TABS);
    assert_eq!(test.app.tab().unwrap().identifier, "EL_0");
}

#[test]
fn the_agents_name_is_asked_for_and_shown() {
    let mut test = Test::new(80, 14);
    test.confirmed();
    assert_eq!(test.requests, [Request::Describe(0, "EL_dispatch_1790855035".into())]);
    test.put(Input::Message(Message::Described(0, Box::new(view(1, "EL_a_1", "in_progress")))));
    assert!(test.screen()[1].starts_with("http://127.0.0.1:8000  agent_7"));
}

#[test]
fn the_tab_that_is_shown_is_on_the_screen_among_many() {
    let names: Vec<String> = (0..40).map(|call| format!("EL_call_{call:02}")).collect();
    let mut test = Test::of(&names.iter().map(String::as_str).collect::<Vec<_>>(), 40, 12);
    for name in &names {
        assert!(test.screen()[2].contains(name), "{name}: {}", test.screen()[2]);
        test.key(KeyCode::Tab);
    }
}
