//! `tail` in full-screen mode.

use callscope_tests::pty::key;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_followed_from_its_first_turn_to_its_result() {
    let scene = Scene::new().await;
    say(&scene, "conv_road", "agent", "Road assistance, hello.").await;
    let mut terminal = scene.terminal((80, 24), &["tail", "conv_road"], &[]);
    terminal.until_text("LIVE");
    terminal.until_text("agent Road assistance, hello.");
    assert!(terminal.modes().alternate && terminal.modes().hidden_cursor);
    let turn = |message: &str, is_final: bool| json!({"conversation_id": "conv_road", "speaker": "user", "message": message, "turn_id": "7", "is_final": is_final});
    scene.post("transcription", &turn("My car is", false)).await;
    terminal.until_text("user  My car is");
    scene.post("transcription", &turn("My car's dead.", true)).await;
    terminal.until_text("user  My car's dead.");
    assert!(!terminal.screen().contains("My car is"), "it was replaced in place");
    scene.end("conv_road").await;
    terminal.until_text("ENDED success");
    let result = "call completed, successful; 00:41; 74 credits";
    for text in [result, "A truck was sent.", "safety_first: success", "place = A10", "agent_road"] {
        terminal.until_text(text);
    }
    terminal.press("q");
    let ended = terminal.wait_for_exit();
    assert!(ended.status.success());
    assert!(
        ended.screen.contains("keep it: callscope calls export") && ended.screen.contains(" -- conv_road"),
        "{}",
        ended.screen
    );
}

/// The server dies in the middle of a call. This shows what the person at the screen sees of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_costs_one_line_and_nothing_else() {
    let mut scene = Scene::new().await;
    for turn in 0..4 {
        scene.turn("EL_kill_1", "user", &format!("before {turn};")).await;
    }
    let terminal = scene.terminal((80, 40), &["tail", "EL_kill_1"], &[]);
    terminal.until_text("before 3;");
    scene.kill().await;
    terminal.until_text("RETRY");
    terminal.until_text("-- connection lost: ");
    scene.start().await;
    for turn in 0..4 {
        scene.turn("EL_kill_1", "agent", &format!("after {turn};")).await;
    }
    terminal.until_text("after 3;");
    terminal.until_text("LIVE");
    let screen = terminal.screen();
    assert!(screen.contains("-- connection lost for ") && screen.contains("resumed after seq 4"), "{screen}");
    assert!(screen.split_whitespace().collect::<Vec<_>>().join(" ").contains("nothing missed"), "{screen}");
    let mut at = 0;
    for text in (0..4).map(|turn| format!("before {turn};")).chain((0..4).map(|turn| format!("after {turn};"))) {
        let found = screen[at..].find(&text).unwrap_or_else(|| panic!("{text} is missing or out of order:\n{screen}"));
        at += found;
        assert_eq!(screen.matches(&text).count(), 1, "{text}:\n{screen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scrolling_up_pauses_and_search_filter_and_help_work() {
    let scene = Scene::new().await;
    for turn in 0..60 {
        scene.turn("EL_long_1", "agent", &format!("turn number {turn}.")).await;
    }
    let mut terminal = scene.terminal((80, 24), &["tail", "EL_long_1"], &[]);
    terminal.until_text("turn number 59.");
    terminal.press(key::PAGE_UP);
    terminal.until_text("PAUSED");
    terminal.until_no_text("turn number 59.");
    scene.turn("EL_long_1", "user", "a new one").await;
    terminal.until_text("1 new below");
    terminal.press("/number 7");
    terminal.press(key::ENTER);
    terminal.until_text("1 of 1 found");
    terminal.until_text("turn number 7.");
    terminal.press("&number 4");
    terminal.press(key::ENTER);
    terminal.until_no_text("turn number 7.");
    terminal.until_text("turn number 49.");
    terminal.press("?");
    terminal.until_text("turn by turn");
    terminal.press(key::ESC);
    terminal.until_no_text("turn by turn");
    terminal.press("&\x15");
    terminal.press(key::ENTER);
    terminal.press("G");
    terminal.until_text("a new one");
    terminal.until_text("following");
    terminal.press("y");
    terminal.until_text("copied 9 characters");
    assert_eq!(terminal.clipboard().unwrap(), b"YSBuZXcgb25l", "base64 of what was said");
    terminal.press("q");
    let screen = terminal.wait_for_exit().screen;
    assert!(screen.contains("go on with: callscope tail --after 61") && screen.contains(" -- EL_long_1"), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_name_a_call_is_picked_by_a_few_letters() {
    let scene = Scene::new().await;
    let mut terminal = scene.terminal((80, 24), &["tail"], &[]);
    terminal.until_text("no call yet; one appears here");
    scene.turn("EL_bakery_1", "agent", "Two rye loaves?").await;
    scene.turn("EL_road_2", "agent", "Road assistance.").await;
    terminal.until_text("EL_bakery_1");
    terminal.until_text("EL_road_2");
    terminal.press("bkry");
    terminal.until_no_text("EL_road_2");
    terminal.press(key::ENTER);
    terminal.until_text("Two rye loaves?");
    terminal.until_text("LIVE");
    // The second call is in a tab of its own.
    terminal.press("c");
    terminal.until_text("choose a call");
    terminal.press("road");
    terminal.until_text("find: road");
    terminal.press(key::ENTER);
    terminal.until_text("Road assistance.");
    scene.turn("EL_bakery_1", "user", "Three, please.").await;
    terminal.until_text("EL_bakery_1 +1");
    terminal.press(key::TAB);
    terminal.until_text("Three, please.");
    // A tab that is closed is no longer followed, and the other one is.
    terminal.press(key::TAB);
    terminal.until_text("Road assistance.");
    terminal.press("x");
    terminal.until_no_text("EL_road_2");
    scene.turn("EL_bakery_1", "agent", "At seven.").await;
    terminal.until_text("At seven.");
    terminal.press("q");
    let screen = terminal.wait_for_exit().screen;
    for (after, id) in [(3, "EL_bakery_1"), (1, "EL_road_2")] {
        let line = screen.lines().find(|line| line.ends_with(&format!(" -- {id}")));
        // The cursor begins with the number of the event.
        assert!(line.is_some_and(|line| line.contains(&format!("tail --after {after}."))), "{screen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_live_calls_are_followed_when_they_begin() {
    let scene = Scene::new().await;
    scene.turn("EL_first_1", "agent", "the first").await;
    let terminal = scene.terminal((80, 24), &["tail", "--active"], &[]);
    terminal.until_text("the first");
    scene.turn("EL_second_2", "agent", "the second").await;
    terminal.until_text("EL_second_2 +1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_stream_plays_offline() {
    let scene = Scene::new().await;
    say(&scene, "conv_save", "agent", "Keep this.").await;
    scene.end("conv_save").await;
    let mut terminal = scene.terminal((80, 24), &["tail", "conv_save"], &[]);
    terminal.until_text("ENDED success");
    terminal.press("s");
    terminal.until_text("save as: callscope-conv_save.ndjson");
    terminal.press(key::ENTER);
    terminal.until_text("saved as callscope-conv_save.ndjson");
    terminal.press("s");
    terminal.press(key::ENTER);
    terminal.until_text("not saved: File exists");
    let offline =
        Pty::start((80, 24), &program("callscope"), &["play", "callscope-conv_save.ndjson"], &[], scene.folder.path());
    for text in ["recording callscope-conv_save.ndjson", "Keep this.", "A truck was sent."] {
        offline.until_text(text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_screen_follows_the_terminals_size() {
    let scene = Scene::new().await;
    scene.turn("EL_size_1", "agent", &"word ".repeat(30)).await;
    let mut terminal = scene.terminal((80, 24), &["tail", "EL_size_1"], &[]);
    terminal.until_text("agent word");
    terminal.resize(39, 12);
    terminal.until_text("too small: 39x12");
    terminal.until_text("needs 40x12");
    terminal.resize(40, 12);
    terminal.until_text("agent word");
    terminal.resize(200, 50);
    terminal.until_text("word ".repeat(30).trim_end());
    for (columns, rows) in [(1, 1), (500, 2), (2, 500), (60, 15)] {
        terminal.resize(columns, rows);
    }
    terminal.until_text("agent word");
    scene.turn("EL_size_1", "user", "still here").await;
    terminal.until_text("still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_are_the_terminals_own_sixteen_or_none() {
    let scene = Scene::new().await;
    scene.turn("EL_colour_1", "agent", "in colour").await;
    for (environment, coloured) in [([].as_slice(), true), (&[("NO_COLOR", "1")], false)] {
        let terminal = scene.terminal((80, 24), &["tail", "EL_colour_1"], environment);
        terminal.until_text("in colour");
        let text = String::from_utf8_lossy(&terminal.bytes()).into_owned();
        let colours: Vec<&str> =
            text.split("\x1b[").filter(|part| part.starts_with("38;") || part.starts_with("48;")).collect();
        assert_eq!(!colours.is_empty(), coloured, "{colours:?}");
        let own = |part: &&str| (0..16).any(|index| part.starts_with(&format!("38;5;{index};49m")));
        assert!(colours.iter().all(own), "{colours:?}");
    }
}
