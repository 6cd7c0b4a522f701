//! Identifiers, instants, requests.

use callscope_common::protocol::{ClientMessage, ErrorCode, ServerMessage, SubscribeFrom};
use callscope_common::{Identifier, Timestamp};
use proptest::prelude::*;

proptest! {
    #[test]
    fn an_identifier_is_what_it_was_made_of(text in "\\PC{0,140}|[!-~]{1,128}") {
        let is_good = (1..=128).contains(&text.len()) && text.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
        prop_assert_eq!(Identifier::parse(&text).is_ok(), is_good);
        if let Ok(id) = Identifier::parse(&text) {
            prop_assert_eq!(id.as_str(), &text);
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<Identifier>(&json).unwrap(), id);
        }
    }

    #[test]
    fn a_call_id_is_known_by_its_spelling(id in any::<u128>()) {
        let id = uuid::Uuid::from_u128(id);
        prop_assert_eq!(Identifier::parse(&id.to_string()).unwrap().as_call_id(), Some(id));
        prop_assert_eq!(Identifier::parse(&id.simple().to_string()).unwrap().as_call_id(), None);
    }

    #[test]
    fn an_instant_reads_back_and_sorts_as_it_is_shown(one in any::<i64>(), other in any::<i64>(), near in -1_000_000_000_000_i64..4_000_000_000_000_000) {
        let times: Vec<Timestamp> = [one, other, near, near + 1].into_iter().filter_map(Timestamp::from_micros).collect();
        for at in &times {
            prop_assert_eq!(Timestamp::parse_rfc3339(&at.to_string()), Some(*at));
            prop_assert_eq!(at.to_string().len(), "2026-10-01T14:00:31.250000Z".len());
            prop_assert!(Timestamp::from_unix_secs(at.as_unix_secs()).unwrap() <= *at);
            for later in &times {
                prop_assert_eq!(at.cmp(later), at.to_string().cmp(&later.to_string()));
            }
        }
    }

    #[test]
    fn no_number_and_no_text_makes_an_instant_out_of_range(secs in any::<f64>(), whole in any::<i64>(), by in any::<i64>(), text in "\\PC{0,40}|[0-9T:.Z+-]{0,40}") {
        let found = [Timestamp::from_unix_secs_f64(secs), Timestamp::from_unix_secs(whole), Timestamp::parse_rfc3339(&text)];
        for at in found.into_iter().flatten() {
            prop_assert_eq!(Timestamp::parse_rfc3339(&at.to_string()), Some(at));
            let moved = at.plus_secs(by);
            prop_assert_eq!(Timestamp::parse_rfc3339(&moved.to_string()), Some(moved));
        }
    }

    #[test]
    fn a_request_says_where_it_begins(id in "[!-~]{1,128}", after in any::<Option<i64>>(), history in any::<Option<bool>>(), wait in any::<bool>()) {
        let text = serde_json::json!({ "subscribe": id, "after": after, "history": history, "wait": wait }).to_string();
        match (ClientMessage::parse(&text), after, history) {
            (Err(error), Some(_), Some(false)) => prop_assert_eq!(error.code, ErrorCode::InvalidMessageFormat),
            (Err(error), Some(..0), _) => prop_assert_eq!(error.code, ErrorCode::InvalidMessageFormat),
            (Ok(ClientMessage::Subscribe(request)), after, history) => {
                let from = match (after, history) {
                    (Some(after), _) => SubscribeFrom::After(after),
                    (None, Some(false)) => SubscribeFrom::Live,
                    (None, _) => SubscribeFrom::Start,
                };
                prop_assert_eq!((request.identifier.as_str(), request.from, request.wait), (id.as_str(), from, wait));
            }
            other => prop_assert!(false, "{text}: {other:?}"),
        }
    }

    #[test]
    fn any_text_is_a_message_or_an_error(text in "\\PC{0,80}|[{}\\[\\]\",:a-z0-9 ]{0,60}") {
        let _ = ServerMessage::parse(&text);
        if let Err(error) = ClientMessage::parse(&text) {
            prop_assert!(!error.message.is_empty());
        }
    }
}
