//! Whole screens with their styles, in three sizes. `INSTA_UPDATE=always` updates the snapshots; look at them before
//! you commit.

use super::*;

const SIZES: [(u16, u16); 3] = [(40, 12), (80, 24), (120, 40)];

fn call(width: u16, height: u16) -> Test {
    let mut test = Test::new(width, height);
    test.confirmed()
        .turn("agent", "Road assistance, this is Nova. Where are you right now?")
        .turn("user", "Hi. I'm on the A10 northbound, just past exit 22. My engine died.")
        .turn("tool", "find_truck({\"place\":\"A10 northbound, exit 22\",\"kind\":\"flatbed\",\"urgent\":true})");
    test
}

fn check(name: &str, make: impl Fn(u16, u16) -> Test) {
    for (width, height) in SIZES {
        insta::assert_snapshot!(format!("{name}_{width}x{height}"), make(width, height).painted());
    }
}

#[test]
fn live() {
    check("live", |width, height| {
        let mut test = call(width, height);
        test.partial("user", "4", "and my dog is wi");
        test
    });
}

#[test]
fn broken() {
    check("broken", |width, height| {
        let mut test = call(width, height);
        test.retry(1, 1).later(3).resumed().turn("agent", "Good. I'm sending a flatbed.").retry(2, 4);
        test
    });
}

#[test]
fn paused_and_searched() {
    check("paused", |width, height| {
        let mut test = call(width, height);
        test.turns(30).keys("gj/a10⏎");
        test.turn("user", "new");
        test
    });
}

#[test]
fn ended() {
    check("ended", |width, height| {
        let mut test = call(width, height);
        test.result().ended();
        test
    });
}

#[test]
fn tabs() {
    check("tabs", |width, height| {
        let mut test = Test::of(&["EL_road_1790855035", "EL_bakery_1790855099", "EL_port_1790855100"], width, height);
        test.confirmed().turn("agent", "Road assistance, this is Nova.");
        test.call = 1;
        test.confirmed().turns(3);
        test.call = 2;
        test.confirmed().turns(1).result().ended();
        test
    });
}

#[test]
fn picker() {
    check("picker", |width, height| {
        let mut test = Test::of(&[], width, height);
        let view = |number: u128, sid: &str, status: &str, subject: &str| {
            let id = callscope_common::CallId::from_u128(number);
            serde_json::from_str(&format!(
                r#"{{"call_id":"{id}","call_sid":"{sid}","conversation_id":null,"identifiers":[],"status":"{status}",
                "subject":"{subject}","agent_id":null,"metadata":null,"created_at":"2026-10-01T14:00:00Z",
                "updated_at":"2026-10-01T14:00:00Z","call_end_time":null,"seq":1,"turns":{number},"has_audio":false,"call_data":null}}"#
            ))
            .unwrap()
        };
        let calls = vec![
            view(12, "EL_road_1790855035", "in_progress", "breakdown"),
            view(3, "EL_bakery_1790855099", "in_progress", "two rye loaves"),
            view(41, "EL_port_1790855100", "completed", "gate 4"),
        ];
        test.put(Input::Message(Message::Calls(Ok(calls))));
        test.key(KeyCode::Down);
        test
    });
}

#[test]
fn help() {
    check("help", |width, height| {
        let mut test = call(width, height);
        test.keys("?");
        test
    });
}

#[test]
fn raw() {
    check("raw", |width, height| {
        let mut test = call(width, height);
        test.keys("d");
        test
    });
}

#[test]
fn without_colours_the_words_and_places_are_the_same() {
    let mut plain = call(80, 24);
    plain.app.palette = Palette::new(false);
    assert_eq!(plain.screen(), call(80, 24).screen());
    assert!(!plain.painted().lines().skip(1).step_by(2).any(|styles| styles.contains(['c', 'C', 'g', 'G', 'y', 'Y'])));
}
