//! The same JSON in another style is the same JSON.

use callscope_common::json_style::{Separators, Style, Writing, all, write};
use proptest::prelude::*;
use serde_json::Value;

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
        "\\PC{0,12}|[\"\\\\/\u{0}-\u{1f}\u{7f}é東😀\u{2028}]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[\"\\\\ a-zé東]{0,6}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Equal, where JavaScript's `1` is Python's `1.0`.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| alike(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| other.get(key).is_some_and(|other| alike(value, other)))
        }
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (one, other) => one == other,
    }
}

proptest! {
    #[test]
    fn every_style_says_the_same(value in json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        for style in all() {
            let written = write(&text, style);
            let read: Value = serde_json::from_str(&written).unwrap();
            prop_assert!(alike(&value, &read), "{:?}: {} became {}", style, text, written);
            // Written once more it stays as it is.
            prop_assert_eq!(write(&written, style), written);
        }
        let kept = |separators| write(&text, Style { separators, writing: Writing::Kept });
        prop_assert_eq!(kept(Separators::Compact), serde_json::to_string(&value).unwrap());
        prop_assert_eq!(kept(Separators::Indented(2)), serde_json::to_string_pretty(&value).unwrap());
    }
}
