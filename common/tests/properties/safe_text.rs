//! Text from strangers, shown in terminals.

use callscope_common::text::{REPLACEMENT, lines, one_line};
use proptest::prelude::*;

/// Text full of what makes trouble: escapes, control and format characters, bidi, emoji.
fn trouble() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        "[ -~]{0,6}",
        (0_u32..0xa0).prop_map(|c| char::from_u32(c).map_or_else(String::new, String::from)),
        (0x2000_u32..0x2070).prop_map(|c| char::from_u32(c).map_or_else(String::new, String::from)),
        (0xe0000_u32..0xe0080).prop_map(|c| char::from_u32(c).map_or_else(String::new, String::from)),
        prop::sample::select(vec![
            "\x1b[", "\x1b]0;", "\x1bP", "\x1b\\", "\x1b(", "\u{9b}", "\u{9d}", "\u{9c}", "\x07", "\r\n", "\n",
            "\u{2028}", "\u{200d}", "\u{200c}", "👩", "\u{202e}", "\u{2066}", "\u{feff}", "31m", "c",
        ])
        .prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// What a terminal acts on, turns around or does not show; the joiners of emoji and some scripts apart.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

proptest! {
    #[test]
    fn nothing_survives_that_a_terminal_would_act_on(text in trouble()) {
        let line = one_line(&text);
        prop_assert!(!line.chars().any(is_unsafe), "{line:?}");
        let safe = lines(&text);
        prop_assert!(!safe.chars().any(|c| c != '\n' && is_unsafe(c)), "{safe:?}");
        prop_assert_eq!(safe.replace('\n', " "), line);
    }

    #[test]
    fn what_is_safe_stays_as_it_is(text in trouble()) {
        let once = one_line(&text).into_owned();
        prop_assert_eq!(one_line(&once), once.as_str());
        let once = lines(&text).into_owned();
        prop_assert_eq!(lines(&once), once.as_str());
    }

    #[test]
    fn visible_text_is_kept(text in "[a-zA-Zäöüßéñçа-яα-ω一-龥ひ-んア-ン0-9.,!? ]{0,60}") {
        prop_assert_eq!(one_line(&text), text.as_str());
        prop_assert!(!text.contains(REPLACEMENT));
    }
}
