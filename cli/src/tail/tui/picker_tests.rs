//! Tests of [`super::CallPicker`].

use super::*;

fn call(number: u128, sid: &str, status: &str, subject: &str) -> CallView {
    let id = CallId::from_u128(number);
    serde_json::from_str(&format!(
        r#"{{"call_id":"{id}","call_sid":"{sid}","conversation_id":null,"identifiers":[],"status":"{status}","subject":"{subject}",
        "agent_id":null,"metadata":null,"created_at":"2026-10-01T14:00:00Z","updated_at":"2026-10-01T14:00:00Z",
        "call_end_time":null,"seq":1,"turns":1,"has_audio":false,"call_data":null}}"#
    ))
    .unwrap()
}

fn calls() -> Vec<CallView> {
    vec![
        call(1, "EL_done_1", "completed", "tow truck"),
        call(2, "EL_desk_2", "in_progress", "wrong parcel"),
        call(3, "EL_desk_3", "in_progress", "night bus"),
    ]
}

fn shown(picker: &CallPicker) -> Vec<&str> {
    picker.shown().iter().map(|call| call.sid.as_str()).collect()
}

fn typed(picker: &mut CallPicker, text: &str) {
    text.chars().for_each(|c| assert_eq!(picker.key(KeyCode::Char(c).into()), PickerOutcome::Stay));
}

#[test]
fn live_calls_come_first_and_letters_narrow_down() {
    let mut picker = CallPicker::default();
    picker.list(Ok(calls()));
    assert_eq!(shown(&picker), ["EL_desk_2", "EL_desk_3", "EL_done_1"]);
    typed(&mut picker, "ttr");
    assert_eq!(shown(&picker), ["EL_done_1"], "tow truck");
    picker.key(KeyCode::Esc.into());
    typed(&mut picker, "desk bus");
    assert_eq!(shown(&picker), ["EL_desk_3"]);
    typed(&mut picker, " zzz");
    assert!(shown(&picker).is_empty());
    assert_eq!(picker.key(KeyCode::Enter.into()), PickerOutcome::Stay);
}

#[test]
fn the_better_match_comes_first() {
    let mut picker = CallPicker::default();
    picker.list(Ok(vec![call(1, "EL_b-u-s_1", "completed", ""), call(2, "EL_x_2", "completed", "bus")]));
    typed(&mut picker, "bus");
    assert_eq!(shown(&picker)[0], "EL_x_2");
}

#[test]
fn the_selection_goes_with_the_call() {
    let mut picker = CallPicker::default();
    picker.list(Ok(calls()));
    picker.key(KeyCode::Down.into());
    let mut more = calls();
    more.insert(0, call(4, "EL_new_4", "in_progress", "just now"));
    picker.list(Ok(more));
    assert_eq!(shown(&picker)[0], "EL_new_4");
    assert_eq!(picker.key(KeyCode::Enter.into()), PickerOutcome::Chosen("EL_desk_3".into()));
}

#[test]
fn a_list_that_fails_keeps_the_one_before() {
    let mut picker = CallPicker::default();
    picker.list(Ok(calls()));
    picker.list(Err("no answer".into()));
    assert_eq!((shown(&picker).len(), picker.error.as_deref()), (3, Some("no answer")));
    picker.list(Ok(Vec::new()));
    assert_eq!((shown(&picker).len(), picker.error.as_deref()), (0, None));
}

#[test]
fn q_leaves_only_where_nothing_was_typed() {
    let mut picker = CallPicker::default();
    assert_eq!(picker.key(KeyCode::Char('q').into()), PickerOutcome::Close);
    typed(&mut picker, "a");
    assert_eq!(picker.key(KeyCode::Char('q').into()), PickerOutcome::Stay);
    assert_eq!(picker.line.text(), "aq");
}
