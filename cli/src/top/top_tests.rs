//! The state of `top`: sorting, filtering, selections that follow their rows, confirmation and read-only mode.

use callscope_common::Timestamp;
use callscope_common::api::{CallView, ConnectionView, DeliveryView, Stats};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::message::{AdminAction, Errors, List, Message, Request};
use super::state::{Overlay, ServerState, TopApp};
use super::tab::Tab;
use crate::term::event_loop::{Effect, Input, Model as _};

pub(super) fn at(secs: i64) -> Timestamp {
    Timestamp::from_unix_secs(1_790_856_000 + secs).unwrap()
}

pub(super) fn top(tab: Tab) -> TopApp {
    TopApp::new("http://calls.example".into(), None, tab, at(0))
}

pub(super) fn call(sid: &str, status: &str, age: i64, turns: i64) -> CallView {
    serde_json::from_value(json!({
        "call_id": uuid::Uuid::new_v5_like(sid), "call_sid": sid, "conversation_id": null, "identifiers": [sid],
        "status": status, "subject": null, "agent_id": null, "metadata": null, "created_at": at(-age),
        "updated_at": at(-age), "call_end_time": null, "seq": turns, "turns": turns, "has_audio": false, "call_data": null,
    }))
    .unwrap()
}

pub(super) fn connection(user: &str, lag: u64) -> ConnectionView {
    serde_json::from_value(json!({
        "connection_id": uuid::Uuid::new_v5_like(user), "user_id": user, "username": user, "role": "viewer",
        "connected_at": at(-60), "remote_addr": "10.0.0.7:1234", "subscribed_calls": ["EL_a_1"], "sent": 12, "lag": lag,
        "node": "n1",
    }))
    .unwrap()
}

pub(super) fn delivery(kind: &str, verdict: &str) -> DeliveryView {
    serde_json::from_value(json!({
        "delivery_id": uuid::Uuid::new_v5_like(kind), "route": "post-call", "kind": kind, "verdict": verdict,
        "reason": null, "received_at": at(-5), "remote_addr": "10.0.0.9:80", "call_id": null, "response_status": 200,
        "body_bytes": 900,
    }))
    .unwrap()
}

/// Returns the same id for the same name.
trait OfName {
    fn new_v5_like(name: &str) -> uuid::Uuid;
}

impl OfName for uuid::Uuid {
    fn new_v5_like(name: &str) -> uuid::Uuid {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u128, |hash, byte| {
            (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        });
        uuid::Uuid::from_u128(hash)
    }
}

pub(super) fn hear(top: &mut TopApp, list: List) {
    look(top, list, 0);
}

fn look(top: &mut TopApp, list: List, secs: i64) {
    top.update(Input::Message(Message::Polled(Box::default(), list)), at(secs));
}

pub(super) fn press(top: &mut TopApp, keys: &str) -> Vec<Effect<Request>> {
    let code = |key: char| match key {
        '↓' => KeyCode::Down,
        '↑' => KeyCode::Up,
        '⏎' => KeyCode::Enter,
        '⎋' => KeyCode::Esc,
        key => KeyCode::Char(key),
    };
    let now = top.now;
    keys.chars().flat_map(|key| top.update(Input::Key(KeyEvent::new(code(key), KeyModifiers::NONE)), now)).collect()
}

/// The texts of a column, from the first row to the last.
fn column(top: &TopApp, index: usize) -> Vec<String> {
    top.rows().iter().map(|row| row.cells[index].text.clone()).collect()
}

fn selected(top: &TopApp, index: usize) -> String {
    let rows = top.rows();
    rows[top.selection(&rows)].cells[index].text.clone()
}

const CALL: usize = 4;
const USER: usize = 1;

fn three_calls() -> Vec<CallView> {
    vec![call("b", "completed", 300, 7), call("c", "in_progress", 20, 3), call("a", "failed", 100, 10)]
}

#[test]
fn the_newest_come_first_until_another_column_is_chosen() {
    let mut top = top(Tab::Calls);
    hear(&mut top, List::Calls(three_calls()));
    assert_eq!(column(&top, CALL), ["c", "a", "b"]);
    press(&mut top, ">>");
    assert_eq!(column(&top, 2), ["10", "7", "3"], "numbers by size, not by letters");
    press(&mut top, "r");
    assert_eq!(column(&top, 2), ["3", "7", "10"]);
    press(&mut top, ">>");
    assert_eq!(column(&top, CALL), ["a", "b", "c"], "another column begins the right way round");
    press(&mut top, "<<<<<");
    assert_eq!(top.tab_state().sort, 6, "behind the first comes the last");
}

#[test]
fn a_filter_is_typed_kept_undone_and_removed() {
    let mut top = top(Tab::Calls);
    hear(&mut top, List::Calls(three_calls()));
    press(&mut top, "/FAIL");
    assert_eq!(column(&top, CALL), ["a"], "whatever the case, in any column");
    // Letters are text here and not keys.
    press(&mut top, "q");
    assert_eq!((top.tab_state().filter.as_str(), column(&top, CALL).len()), ("FAILq", 0));
    press(&mut top, "⎋");
    assert_eq!((top.tab_state().filter.as_str(), column(&top, CALL).len()), ("", 3));
    press(&mut top, "/comp⏎");
    assert_eq!((column(&top, CALL), &top.overlay), (vec!["b".to_owned()], &Overlay::None));
    press(&mut top, "⎋");
    assert_eq!(column(&top, CALL).len(), 3);
}

#[test]
fn what_is_pasted_is_a_filter_and_never_a_key() {
    let mut top = top(Tab::Connections);
    hear(&mut top, List::Connections(vec![connection("ada", 0)]));
    assert!(top.update(Input::Paste("Kyq".into()), at(0)).is_empty());
    assert_eq!(top.overlay, Overlay::None);
    press(&mut top, "/");
    top.update(Input::Paste("a\x1b[2Jd\n".into()), at(0));
    assert_eq!(top.tab_state().filter, "a\u{fffd}d ");
}

#[test]
fn the_selection_stays_with_its_row_while_others_come_and_go() {
    let mut top = top(Tab::Calls);
    hear(&mut top, List::Calls(three_calls()));
    press(&mut top, "↓");
    assert_eq!(selected(&top, CALL), "a");
    let mut more = three_calls();
    more.insert(0, call("new", "in_progress", 0, 0));
    look(&mut top, List::Calls(more.clone()), 5);
    assert_eq!(selected(&top, CALL), "a", "a new row above it does not move it");
    press(&mut top, "r");
    assert_eq!(selected(&top, CALL), "a", "nor does another order");
    press(&mut top, "r");
    more.retain(|call| call.call_sid != "a");
    look(&mut top, List::Calls(more), 6);
    assert_eq!(selected(&top, CALL), "b", "when it goes, the row in its place is selected");
    look(&mut top, List::Calls(Vec::new()), 7);
    look(&mut top, List::Calls(three_calls()), 8);
    assert_eq!(top.rows().len(), 3);
}

#[test]
fn until_it_is_moved_the_selection_is_the_first_row_whichever_that_is() {
    let mut top = top(Tab::Calls);
    hear(&mut top, List::Calls(three_calls()));
    assert_eq!(selected(&top, CALL), "c");
    let mut more = three_calls();
    more.push(call("new", "in_progress", 0, 0));
    look(&mut top, List::Calls(more.clone()), 1);
    assert_eq!(selected(&top, CALL), "new");
    press(&mut top, "↓g");
    more.push(call("newest", "in_progress", -1, 0));
    look(&mut top, List::Calls(more), 2);
    assert_eq!(selected(&top, CALL), "newest", "g goes back to that");
}

#[test]
fn the_selected_row_is_always_on_the_screen() {
    let mut top = top(Tab::Calls);
    let calls: Vec<_> = (0..100).map(|n| call(&format!("c{n:02}"), "completed", n, n)).collect();
    hear(&mut top, List::Calls(calls));
    let is_on_screen = |top: &TopApp| {
        let place = top.selection(&top.rows());
        (top.tab_state().offset..top.tab_state().offset + top.body_rows()).contains(&place)
    };
    for (keys, expected) in [("G", 99), ("g", 0), (" ", 18), ("↓↓", 20), ("↑", 19)] {
        press(&mut top, keys);
        assert_eq!(top.selection(&top.rows()), expected, "{keys}");
        assert!(is_on_screen(&top), "{keys}");
    }
    top.update(Input::Resize(40, 12), at(1));
    assert!(is_on_screen(&top));
}

#[test]
fn a_kick_is_asked_about_and_goes_to_the_one_that_was_asked_about() {
    let mut top = top(Tab::Connections);
    let connections = vec![connection("ada", 0), connection("bob", 3)];
    let ada = connections[0].connection_id;
    hear(&mut top, List::Connections(connections));
    let keys = if selected(&top, USER) == "ada" { "K" } else { "↓K" };
    assert!(press(&mut top, keys).iter().all(|effect| *effect == Effect::Draw), "nothing is done before the answer");
    let action = AdminAction::Kick { connection: ada, who: "ada (10.0.0.7:1234)".into() };
    assert_eq!(top.overlay, Overlay::Confirm(action.clone()));
    // Other connections come and go meanwhile, and then the selected one goes.
    hear(&mut top, List::Connections(vec![connection("eve", 0), connection("bob", 3)]));
    assert_eq!(press(&mut top, "y"), [Effect::Draw, Effect::Request(Request::Execute(action))]);
    assert_eq!(top.overlay, Overlay::None);
}

#[test]
fn only_y_is_a_yes() {
    for keys in ["⏎", "Y", "K", " ", "n", "q", "⎋", "j"] {
        let mut top = top(Tab::Connections);
        hear(&mut top, List::Connections(vec![connection("ada", 0)]));
        press(&mut top, "K");
        let effects = press(&mut top, keys);
        assert!(effects.iter().all(|effect| *effect == Effect::Draw), "{keys}: {effects:?}");
        let is_open = matches!(top.overlay, Overlay::Confirm(_));
        assert_eq!(is_open, !matches!(keys, "n" | "q" | "⎋"), "{keys}");
    }
}

#[test]
fn a_delivery_is_replayed_from_either_of_its_tabs() {
    for (tab, list) in [
        (Tab::Deliveries, List::Deliveries(vec![delivery("post_call_audio", "accepted")])),
        (Tab::Errors, List::Errors(Errors { rejected: vec![delivery("x", "rejected")], unverified: Vec::new() })),
    ] {
        let mut top = top(tab);
        hear(&mut top, list);
        press(&mut top, "K");
        assert_eq!(top.overlay, Overlay::None, "there is no one to kick");
        press(&mut top, "R");
        let effects = press(&mut top, "y");
        assert!(
            matches!(effects.as_slice(), [_, Effect::Request(Request::Execute(AdminAction::Replay { .. }))]),
            "{effects:?}"
        );
    }
}

#[test]
fn read_only_changes_nothing_whatever_is_pressed() {
    for (tab, list) in [
        (Tab::Connections, List::Connections(vec![connection("ada", 0)])),
        (Tab::Deliveries, List::Deliveries(vec![delivery("x", "accepted")])),
    ] {
        let mut top = top(tab);
        top.read_only = true;
        hear(&mut top, list);
        for keys in ["Ky", "Ry", "⏎Ky", "⎋/K⏎Ry"] {
            let effects = press(&mut top, keys);
            assert!(
                !effects.iter().any(|effect| matches!(effect, Effect::Request(Request::Execute(_)))),
                "{keys}: {effects:?}"
            );
            assert!(!matches!(top.overlay, Overlay::Confirm(_)));
        }
    }
}

#[test]
fn q_closes_what_is_open_before_it_quits_and_escape_never_quits() {
    let mut top = top(Tab::Connections);
    hear(&mut top, List::Connections(vec![connection("ada", 0)]));
    press(&mut top, "⏎");
    assert!(matches!(&top.overlay, Overlay::Detail(detail) if detail.lines.is_some()));
    assert_eq!(press(&mut top, "q"), [Effect::Draw]);
    assert_eq!(press(&mut top, "⎋⎋?⎋"), vec![Effect::Draw; 4]);
    assert_eq!(press(&mut top, "q"), [Effect::Quit]);
}

#[test]
fn another_tab_is_looked_at_at_once_and_keeps_its_own_filter_and_order() {
    let mut top = top(Tab::Calls);
    hear(&mut top, List::Calls(three_calls()));
    press(&mut top, "/a⏎>");
    assert_eq!(press(&mut top, "2"), [Effect::Draw, Effect::Request(Request::Poll(Tab::Connections))]);
    assert_eq!((top.tab_state().filter.as_str(), top.tab_state().sort), ("", 0));
    press(&mut top, "1");
    assert_eq!((top.tab_state().filter.as_str(), top.tab_state().sort), ("a", 1));
    press(&mut top, "h");
    assert_eq!(top.tab, Tab::Errors, "before the first tab comes the last");
}

#[test]
fn a_call_is_asked_for_and_an_answer_that_comes_late_is_left_out() {
    let mut top = top(Tab::Calls);
    hear(&mut top, List::Calls(three_calls()));
    let effects = press(&mut top, "⏎");
    let [_, Effect::Request(Request::Detail(Tab::Calls, key))] = effects.as_slice() else { panic!("{effects:?}") };
    let lines = vec![("call".to_owned(), "c".to_owned())];
    top.update(Input::Message(Message::Detail(Tab::Calls, "another".into(), Vec::new())), at(1));
    assert!(matches!(&top.overlay, Overlay::Detail(detail) if detail.lines.is_none()));
    top.update(Input::Message(Message::Detail(Tab::Calls, key.clone(), lines.clone())), at(1));
    assert!(matches!(&top.overlay, Overlay::Detail(detail) if detail.lines.as_ref() == Some(&lines)));
    press(&mut top, "q");
    top.update(Input::Message(Message::Detail(Tab::Calls, key.clone(), lines)), at(2));
    assert_eq!(top.overlay, Overlay::None);
}

#[test]
fn a_server_that_is_silent_is_said_so_and_what_it_said_last_stays() {
    let mut top = top(Tab::Calls);
    hear(&mut top, List::Calls(three_calls()));
    top.update(Input::Message(Message::Unreachable("no answer".into())), at(5));
    top.update(Input::Message(Message::Unreachable("still none".into())), at(9));
    assert_eq!(top.server_state, ServerState::Lost(at(5), "still none".into()), "since the first silence");
    assert_eq!(top.rows().len(), 3);
    look(&mut top, List::Calls(three_calls()), 12);
    assert_eq!(top.server_state, ServerState::Live(at(12)));
}

#[test]
fn rates_are_what_was_counted_over_what_went_by() {
    let mut top = top(Tab::Calls);
    for (secs, events) in [(0, 100), (2, 110), (4, 150)] {
        let stats = Stats { events_broadcast: events, ..Stats::default() };
        top.update(Input::Message(Message::Polled(Box::new(stats), List::Calls(Vec::new()))), at(secs));
    }
    assert_eq!(top.rates.events.last(9).collect::<Vec<_>>(), [5.0, 20.0]);
}
