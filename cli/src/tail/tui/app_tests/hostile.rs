//! The worst text that a call, a server or a file may contain.

use super::*;

/// Complete and incomplete escape sequences of every kind, C0 and C1 characters, direction overrides and invisible
/// characters.
pub(crate) fn worst() -> Vec<String> {
    let mut worst: Vec<String> = [
        "\u{1b}[2J\u{1b}[H\u{1b}[31mred\u{1b}[0m",
        "\u{1b}]0;owned\u{7}title",
        "\u{1b}]52;c;ZXZpbA==\u{1b}\\clipboard",
        "\u{1b}]8;;http://evil\u{1b}\\link\u{1b}]8;;\u{1b}\\",
        "\u{1b}P+q544e\u{1b}\\dcs",
        "\u{1b}]0;never ends",
        "\u{1b}[",
        "\u{1b}",
        "\u{9b}2J\u{9d}0;c1\u{9c}\u{90}x\u{9c}",
        "a\u{0}b\u{7}\u{8}\u{8}\u{8}\r\nline\u{b}\u{c}",
        "\u{202e}drow\u{202c} \u{2066}x\u{2069} \u{200f}\u{61c}",
        "zero\u{200b}width\u{feff}\u{2060}\u{ad}",
        "tags\u{e0041}\u{e0042}\u{e007f}",
        "\u{300}\u{301}starts with marks",
        "👩\u{200d}👩\u{200d}👧\u{200d}👦 🏳\u{fe0f}\u{200d}🌈 🇩🇪🇫🇷🇩 👍🏿 1\u{fe0f}\u{20e3}",
        "नमस्ते क्षत्रिय का",
        "مرحبا بالعالم",
        "東京特許許可局",
        "\u{115f}\u{1160}\u{3164}\u{ffa0}",
        "",
        " ",
    ]
    .map(str::to_owned)
    .into();
    worst.push(format!("z{}", "\u{489}".repeat(500)));
    worst.push("x".repeat(65_536));
    worst.push("👨\u{200d}👩\u{200d}👧\u{200d}👦".repeat(500));
    worst.push((0..0x300).filter_map(char::from_u32).collect());
    worst
}

/// Checks that no cell holds a character that a terminal acts upon, and that each is as wide as it is counted.
fn assert_harmless(test: &Test) {
    let buffer = test.buffer();
    for cell in &buffer.content {
        let symbol = cell.symbol();
        assert_eq!(callscope_common::text::one_line(symbol), symbol, "{symbol:?}");
        let parts: usize = symbol.chars().filter_map(unicode_width::UnicodeWidthChar::width).sum();
        assert_eq!(parts, symbol.width(), "terminals agree on the width of {symbol:?}");
    }
}

#[test]
fn nothing_raw_is_drawn_at_any_size() {
    for (width, height) in [(40, 12), (41, 12), (80, 24), (133, 50)] {
        let mut test = Test::new(width, height);
        test.confirmed();
        for text in worst() {
            for speaker in ["agent", "user", "tool"] {
                test.turn(speaker, &text).partial(speaker, "t", &text);
                assert_harmless(&test);
            }
        }
        for keys in ["g", "w", "t", "⏎", "d", "q", "/e⏎n", "&e⏎"] {
            test.keys(keys);
            assert_harmless(&test);
        }
    }
}

#[test]
fn nothing_raw_comes_from_names_reasons_lists_and_files() {
    for text in worst() {
        let json = serde_json::to_string(&text).unwrap();
        let origin = Origin::Server(text.clone());
        let mut test = Test::new(80, 24);
        test.app = TailApp::new(origin, vec![text.clone(), text.clone()], false, true, at(0));
        test.put(Input::Resize(80, 24));
        test.confirmed();
        let reason = text.clone();
        test.live(Update::Reconnecting { attempt: 1, delay: Duration::ZERO, reason, broke: true }).resumed();
        test.say(&format!(
            r#"{{"type":"call_completed","conversation_id":null,"call_sid":"a","seq":1,"call_data":{{"status":"failed",
            "failure_reason":{json},"transcript_summary":{json},"analysis_data":{{"evaluation_criteria_results":{{{json}:
            {{"result":{json},"rationale":{json}}}}},"data_collection_results":{{{json}:{{"value":{json}}}}}}}}}}}"#
        ));
        assert_harmless(&test);
        test.put(Input::Message(Message::Saved(Err(text.clone()))));
        assert_harmless(&test);
        test.keys("/");
        test.put(Input::Paste(text.clone()));
        assert_harmless(&test);
        test.key(KeyCode::Esc);
        test.keys("c");
        test.put(Input::Message(Message::Calls(Err(text.clone()))));
        assert_harmless(&test);
        let view = format!(
            r#"{{"call_id":"{CALL}","call_sid":{json},"conversation_id":{json},"identifiers":[],"status":"in_progress","subject":{json},
            "agent_id":{json},"metadata":null,"created_at":"2026-10-01T14:00:00Z","updated_at":"2026-10-01T14:00:00Z",
            "call_end_time":null,"seq":1,"turns":1,"has_audio":false,"call_data":null}}"#
        );
        test.put(Input::Message(Message::Calls(Ok(vec![serde_json::from_str(&view).unwrap()]))));
        assert_harmless(&test);
    }
}

#[test]
fn wide_and_joined_characters_stay_in_their_rows() {
    let mut test = Test::new(40, 12);
    test.confirmed()
        .turn("agent", "Grüezi 👩\u{200d}🚒 🇨🇭 \u{202e}dlrow\u{1b}[2J\u{7} 東京東京東京東京東京")
        .turn("user", &"x".repeat(60));
    assert_eq!(
        test.screen(),
        [
            "EL_dispatch_1790855035              LIVE",
            "http://127.0.0.1:8000       seq 2  00:08",
            "────────────────────────────────────────",
            "00:00 agent Grüezi 👩 CH dlrow\u{fffd}\u{fffd} 東京東",
            "            京東京東京東京",
            "00:04  user  xxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "             xxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "             xxxxxx",
            "",
            "",
            "",
            "following                 ? help  q quit",
        ]
    );
}

#[test]
fn a_screen_too_small_says_so() {
    for (width, height) in [(39, 12), (40, 11), (1, 1), (10, 2), (0, 0)] {
        let screen = Test::new(width, height).screen();
        let first = screen.first().cloned().unwrap_or_default();
        assert!("too small".starts_with(first.get(..9).unwrap_or(&first)), "{screen:?}");
    }
    assert!(Test::new(40, 12).screen()[0].ends_with("CONNECTING"));
}
