//! Lone surrogate escapes in JSON.

use callscope_common::json::{Object, replace_lone_surrogates};
use proptest::prelude::*;

/// Pieces of a JSON string: characters, escapes of any kind, surrogates with and without partner.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ !#-\\[\\]-~äあ😀]{0,4}",
        prop::sample::select(vec!["\\n", "\\\\", "\\\"", "\\u0000", "\\u00e9", "\\\\u", "\\/"]).prop_map(String::from),
        (0xd800_u32..0xe000, any::<bool>()).prop_map(|(unit, upper)| if upper {
            format!("\\u{unit:04X}")
        } else {
            format!("\\u{unit:04x}")
        }),
        (0x1_0000_u32..0x11_0000).prop_filter_map("a character", |c| {
            let mut units = [0; 2];
            let units = char::from_u32(c)?.encode_utf16(&mut units);
            Some(units.iter().map(|unit| format!("\\u{unit:04x}")).collect())
        }),
    ]
}

/// The naive way: decode the units, pair them up, put U+FFFD for what is left alone.
fn naive(literal: &str) -> String {
    let mut units: Vec<u16> = Vec::new();
    let mut chars = literal.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            units.extend(c.encode_utf16(&mut [0; 2]).iter());
            continue;
        }
        match chars.next().unwrap() {
            'u' => units.push(u16::from_str_radix(&chars.by_ref().take(4).collect::<String>(), 16).unwrap()),
            'n' => units.push(10),
            other => units.push(other as u16),
        }
    }
    char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')).collect()
}

proptest! {
    #[test]
    fn lone_surrogates_become_the_replacement_and_all_else_stays(pieces in prop::collection::vec(piece(), 0..12)) {
        let literal = pieces.concat();
        let json = format!(r#"{{"a":"{literal}"}}"#);
        let fixed = replace_lone_surrogates(&json);
        let text = Object::parse(&fixed).unwrap().string("a");
        prop_assert_eq!(text, Some(naive(&literal)));
        prop_assert_eq!(fixed.len(), json.len());
        let again = replace_lone_surrogates(&fixed);
        prop_assert_eq!(&again, &fixed);
    }

    #[test]
    fn any_text_is_left_a_text(text in "\\PC{0,60}|[\\\\ud8-9a-fA-F0-9\"]{0,60}") {
        let fixed = replace_lone_surrogates(&text);
        prop_assert_eq!(fixed.len(), text.len());
        if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
            prop_assert_eq!(&*fixed, text.as_str());
        }
    }
}
