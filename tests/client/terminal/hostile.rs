//! A call whose texts are hostile: none of their control characters reaches the terminal.

use super::*;

/// Texts with control sequences and invisible characters, which must not reach the terminal.
const HOSTILE_TEXTS: [&str; 12] = [
    "\u{1b}]0;owned\u{7}\u{1b}]2;owned\u{1b}\\",
    "\u{1b}]52;c;ZXZpbA==\u{7}",
    "\u{1b}]52;c;?\u{7}",
    "\u{1b}[?1049l\u{1b}[?25h\u{1b}c",
    "\u{1b}[8;1;1t\u{1b}[6n\u{1b}[c",
    "\u{1b}[31;5mred\u{1b}[0m\u{9b}2J",
    "\u{7}\u{8}\u{b}\u{c}\u{e}\u{f}",
    "\u{202e}drow\u{202c}\u{2066}x\u{2069}\u{200b}\u{feff}",
    "\u{1b}P+q544e\u{1b}\\\u{90}x\u{9c}",
    "\u{1b}]8;;http://evil.example\u{1b}\\link\u{1b}]8;;\u{1b}\\",
    "\u{e0041}\u{e0042}\u{115f}\u{3164}",
    "\u{1b}]0;never ends",
];

async fn speak(scene: &Scene) {
    for (number, worst) in HOSTILE_TEXTS.iter().enumerate() {
        say(scene, "conv_worst", ["agent", "user", "tool"][number % 3], &format!("<{worst}>")).await;
    }
    let all = HOSTILE_TEXTS.concat();
    let data = json!({"conversation_id": "conv_worst", "status": "done", "agent_id": all,
        "analysis": {"call_successful": "success", "transcript_summary": all,
            "evaluation_criteria_results": {(all.clone()): {"result": all, "rationale": all}},
            "data_collection_results": {(all.clone()): {"value": all}}}});
    scene
        .post("post-call", &json!({"type": "post_call_transcription", "event_timestamp": unix_secs(), "data": data}))
        .await;
    say(scene, "conv_worst", "agent", "the last word").await;
}

fn assert_harmless(bytes: &[u8], forbidden_sequences: &[String], what: &str) {
    assert_eq!(forbidden_sequences, [""; 0], "{what}");
    let text = String::from_utf8_lossy(bytes);
    for wrong in [
        "\x1b]0",
        "\x1b]2;",
        "\x1b]52",
        "\x1b]8",
        "\x1bP",
        "\x1bc",
        "\x1b[8;1;1t",
        "\x1b[6n",
        "\x1b[c",
        "\x1b[31;5m",
        "\x07",
    ] {
        assert!(!text.contains(wrong), "{what}: {wrong:?}");
    }
    let is_invisible = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}' | '\u{feff}' | '\u{80}'..='\u{9f}' | '\u{e0000}'..='\u{e0fff}');
    assert!(!text.contains(is_invisible), "{what}: {:?}", text.chars().find(|c| is_invisible(*c)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_call_is_safe_in_full_screen_and_in_its_json() {
    let scene = Scene::new().await;
    speak(&scene).await;
    let mut terminal = scene.terminal((60, 30), &["tail", "conv_worst"], &[]);
    terminal.until_text("the last word");
    terminal.until_text("ENDED");
    for keys in ["g", "d", "q", "j", "d", "q", "\r", "/<\r", "n", "n", "&drow\r", "c", "\x1b", "1", "2", "3", "t", "w"]
    {
        let before = terminal.bytes().len();
        terminal.press(keys);
        terminal.wait_past(before);
    }
    terminal.press("s\x15worst.ndjson\r");
    terminal.until_text("saved as worst.ndjson");
    assert_harmless(&terminal.bytes(), &terminal.forbidden_sequences(), "tail");
    terminal.press("q");
    let ended = terminal.wait_for_exit();
    assert!(!ended.modes.alternate);
    let played = scene.terminal((60, 30), &["play", "worst.ndjson", "--speed", "max"], &[]);
    played.until_text("the last word");
    assert_harmless(&played.bytes(), &played.forbidden_sequences(), "play");
    let plain = scene.terminal((60, 30), &["play", "worst.ndjson", "--plain"], &[]).wait_for_exit();
    assert_harmless(&plain.bytes, &[], "play --plain");
    assert!(plain.status.success() && String::from_utf8_lossy(&plain.bytes).contains("the last word"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_call_is_safe_as_lines_on_a_terminal() {
    let scene = Scene::new().await;
    speak(&scene).await;
    for arguments in [
        ["tail", "conv_worst", "--plain"].as_slice(),
        &["tail", "conv_worst", "-o", "ndjson"],
        &["calls", "ls"],
        &["calls", "show", "conv_worst"],
    ] {
        let ended = scene.terminal((200, 50), arguments, &[]).wait_for_exit();
        assert!(ended.status.success(), "{arguments:?}: {}", ended.screen);
        assert_harmless(&ended.bytes, &[], &format!("{arguments:?}"));
        assert!(ended.screen.contains("conv_worst") || ended.screen.contains("the last word"), "{}", ended.screen);
    }
}
