//! Values by which clients resume and page: cursors, numbers and times in query strings, and `after` in requests.

#![no_main]

use callscope_common::protocol::{ClientMessage, SubscribeFrom};
use callscope_common::{Identifier, Timestamp};
use callscope_server::testing::query::{cursor, number, text_without_nul, timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(Some(id)) = cursor(Some(text)) {
        assert_eq!(cursor(Some(&id.to_string())).ok(), Some(Some(id)));
    }
    if let Ok(number) = number("after", Some(text), 0, i64::MAX) {
        let number = number.expect("a number");
        assert!(number >= 0);
        let request = format!(r#"{{"subscribe":"a","after":{number}}}"#);
        let Ok(ClientMessage::Subscribe(subscribe)) = ClientMessage::parse(&request) else { panic!("{request}") };
        assert_eq!(subscribe.from, SubscribeFrom::After(number));
    }
    if let Ok(ClientMessage::Subscribe(subscribe)) = ClientMessage::parse(&format!(r#"{{"subscribe":"a","after":{text}}}"#))
    {
        assert!(!matches!(subscribe.from, SubscribeFrom::After(..0)));
    }
    if let Ok(at) = timestamp("after", text) {
        assert_eq!(Timestamp::parse_rfc3339(&at.to_string()), Some(at));
    }
    if let Ok(text) = text_without_nul("q", Some(text)) {
        assert!(text.is_some_and(|text| !text.contains('\0')));
    }
    if let Ok(id) = Identifier::parse(text) {
        assert!(id.as_call_id().is_none_or(|call_id| call_id.to_string().eq_ignore_ascii_case(text)));
    }
});
