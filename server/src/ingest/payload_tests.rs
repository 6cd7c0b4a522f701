//! Provider JSON of any shape: reading it never panics, loses no known content, and rejects only a missing type or
//! conversation id.

use std::path::Path;
use std::sync::LazyLock;

use callscope_common::api::WebhookRoute;
use callscope_common::protocol::{CallCompleted, ServerMessage};
use callscope_common::{CallData, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::naming::{CallLinks, Naming};
use super::{WebhookRequest, read_delivery};
use crate::log::{Change, Delivery};

/// A JSON value that keeps the order of keys, repeated keys, and numbers as they were written.
#[derive(Debug, Clone)]
enum JsonTree {
    Raw(String),
    List(Vec<JsonTree>),
    Object(Vec<(String, JsonTree)>),
}

impl JsonTree {
    fn from_value(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Array(items) => Self::List(items.iter().map(Self::from_value).collect()),
            serde_json::Value::Object(map) => {
                Self::Object(map.iter().map(|(k, v)| (k.clone(), Self::from_value(v))).collect())
            }
            other => Self::Raw(other.to_string()),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Raw(raw) => raw.clone(),
            Self::List(items) => format!("[{}]", items.iter().map(Self::text).collect::<Vec<_>>().join(",")),
            Self::Object(fields) => {
                let field = |(key, value): &(String, Self)| format!("{}:{}", serde_json::json!(key), value.text());
                format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(","))
            }
        }
    }

    /// Returns the number of values in this tree, with itself.
    fn count(&self) -> usize {
        1 + match self {
            Self::Raw(_) => 0,
            Self::List(items) => items.iter().map(Self::count).sum(),
            Self::Object(fields) => fields.iter().map(|(_, value)| value.count()).sum(),
        }
    }

    /// Returns the value at an index in depth-first order.
    fn at(&mut self, mut index: usize) -> &mut Self {
        if index == 0 {
            return self;
        }
        index -= 1;
        let children: Vec<&mut Self> = match self {
            Self::Raw(_) => Vec::new(),
            Self::List(items) => items.iter_mut().collect(),
            Self::Object(fields) => fields.iter_mut().map(|(_, value)| value).collect(),
        };
        for child in children {
            let count = child.count();
            if index < count {
                return child.at(index);
            }
            index -= count;
        }
        unreachable!("the index is less than the count")
    }
}

/// Any JSON, and what lenient encoders write in its place, such as `NaN`.
fn json() -> impl Strategy<Value = JsonTree> {
    let odd = vec![
        "null",
        "NaN",
        "Infinity",
        "-Infinity",
        "true",
        "false",
        "0",
        "-1",
        "1e400",
        "-0.0",
        "123456789012345678901234567890",
        "1.5",
        "\"\"",
        "\"7\"",
        "\"done\"",
        "\"failed\"",
        "\"\\ud800\"",
        "\"\\udc00\\ud800x\"",
        "\"\\u0000\"",
        "\"a\\u001b[2J\"",
        "\"\u{202e}x\"",
        "9223372036854775807",
        "-9223372036854775808",
        "1790855000",
        "\"1790855000\"",
        "\"success\"",
        "\"unknown\"",
    ];
    let leaf = prop_oneof![
        3 => select(odd).prop_map(|raw| JsonTree::Raw(raw.to_owned())),
        1 => any::<String>().prop_map(|text| JsonTree::Raw(serde_json::json!(text).to_string())),
        1 => any::<f64>().prop_filter("a number", |float| float.is_finite()).prop_map(|float| JsonTree::Raw(float.to_string())),
        1 => any::<i64>().prop_map(|int| JsonTree::Raw(int.to_string())),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let key = prop_oneof![3 => select(KEYS).prop_map(String::from), 1 => any::<String>()];
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(JsonTree::List),
            vec((key, inner), 0..6).prop_map(JsonTree::Object),
        ]
    })
}

/// Keys that the server reads. Most generated values are under them.
const KEYS: &[&str] = &[
    "type",
    "event_timestamp",
    "data",
    "conversation_id",
    "call_sid",
    "agent_id",
    "status",
    "transcript",
    "role",
    "message",
    "time_in_call_secs",
    "tool_calls",
    "tool_results",
    "tool_name",
    "params_as_json",
    "result_value",
    "is_error",
    "metadata",
    "start_time_unix_secs",
    "call_duration_secs",
    "cost",
    "cost_fiat",
    "phone_call",
    "error",
    "reason",
    "termination_reason",
    "analysis",
    "call_successful",
    "transcript_summary",
    "failure_reason",
    "conversation_initiation_client_data",
    "dynamic_variables",
    "system__call_sid",
    "body",
    "CallSid",
    "full_audio",
    "speaker",
    "timestamp",
    "turn_id",
    "is_final",
];

fn fixtures() -> &'static [JsonTree] {
    static FIXTURES: LazyLock<Vec<JsonTree>> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/post_call");
        let read = |entry: std::io::Result<std::fs::DirEntry>| {
            let text = std::fs::read_to_string(entry.expect("a fixture").path()).expect("text");
            let text = callscope_common::json::replace_lone_surrogates(&text).into_owned();
            serde_json::from_str(&text).ok().map(|value| JsonTree::from_value(&value))
        };
        let mut fixtures: Vec<(String, JsonTree)> =
            std::fs::read_dir(folder).expect("fixtures").filter_map(read).map(|json| (json.text(), json)).collect();
        fixtures.retain(|(text, _)| text.len() < 20_000);
        fixtures.sort_by(|one, other| one.0.cmp(&other.0));
        assert!(fixtures.len() > 10, "there are fixtures");
        fixtures.into_iter().map(|(_, json)| json).collect()
    });
    &FIXTURES
}

/// A change to the value at an index.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(Index, JsonTree),
    RemoveChild(Index, Index),
    RepeatKey(Index, Index, JsonTree),
    AddField(Index, String, JsonTree),
    /// Puts the value into this many lists.
    Nest(Index, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<Index>;
    prop_oneof![
        (index(), json()).prop_map(|(at, json)| Mutation::Replace(at, json)),
        (index(), index()).prop_map(|(at, field)| Mutation::RemoveChild(at, field)),
        (index(), index(), json()).prop_map(|(at, field, json)| Mutation::RepeatKey(at, field, json)),
        (index(), any::<String>(), json()).prop_map(|(at, key, json)| Mutation::AddField(at, key, json)),
        (index(), 1..200_usize).prop_map(|(at, depth)| Mutation::Nest(at, depth)),
    ]
}

fn mutate(json: &mut JsonTree, mutation: Mutation) {
    let count = json.count();
    match mutation {
        Mutation::Replace(at, new) => *json.at(at.index(count)) = new,
        Mutation::RemoveChild(at, field) => match json.at(at.index(count)) {
            JsonTree::Object(fields) if !fields.is_empty() => drop(fields.remove(field.index(fields.len()))),
            JsonTree::List(items) if !items.is_empty() => drop(items.remove(field.index(items.len()))),
            _ => {}
        },
        Mutation::RepeatKey(at, field, new) => {
            if let JsonTree::Object(fields) = json.at(at.index(count))
                && !fields.is_empty()
            {
                let key = fields[field.index(fields.len())].0.clone();
                fields.push((key, new));
            }
        }
        Mutation::AddField(at, key, new) => {
            if let JsonTree::Object(fields) = json.at(at.index(count)) {
                fields.insert(0, (key, new));
            }
        }
        Mutation::Nest(at, depth) => {
            let value = json.at(at.index(count));
            *value = JsonTree::Raw(format!("{}{}{}", "[".repeat(depth), value.text(), "]".repeat(depth)));
        }
    }
}

fn naming() -> Naming {
    Naming::by_links(CallLinks::new(&[]))
}

fn read_at_route(route: WebhookRoute, body: &str) -> Delivery {
    let at = Timestamp::from_unix_secs(1_790_855_035).expect("a time");
    read_delivery(
        WebhookRequest { route, remote_addr: None, headers: Vec::new(), body: body.as_bytes().to_vec() },
        at,
        Some(0),
        &naming(),
    )
}

/// Checks that the data of an accepted delivery is the same after it was stored and read. Otherwise a merge would find
/// the log damaged.
fn check_storable(delivery: &Delivery, body: &str) {
    let data = match &delivery.change {
        Change::Result(result) => {
            assert!(result.turns.iter().all(|turn| !turn.text.is_empty() && turn.offset_secs.is_finite()));
            &result.data
        }
        Change::Turn(turn) => return assert!((1..=65_536).contains(&turn.text.len())),
        _ => return,
    };
    let message = CallCompleted {
        conversation_id: None,
        call_sid: "x".into(),
        call_data: data.clone(),
        seq: 1,
        call_id: None,
        cursor: None,
    };
    let frame = serde_json::to_string(&ServerMessage::CallCompleted(message)).expect("JSON");
    let again = ServerMessage::parse(&frame).unwrap_or_else(|error| panic!("{error}: {frame}\nof {body}"));
    assert_eq!(serde_json::to_string(&again).expect("JSON"), frame);
    let stored = serde_json::to_string(data).expect("JSON");
    assert!(serde_json::from_str::<CallData>(&stored).is_ok(), "{stored}");
}

proptest! {
    #[test]
    fn any_json_is_accepted_or_rejected_for_a_reason(value in json(), is_post_call in any::<bool>()) {
        let body = value.text();
        let delivery = read_at_route(if is_post_call { WebhookRoute::PostCall } else { WebhookRoute::Transcription }, &body);
        check_storable(&delivery, &body);
        if let Change::Rejected { status, message, .. } = &delivery.change {
            prop_assert!(*status == 400 || *status == 413);
            prop_assert!(message != "the body is not JSON", "it is: {body}");
        }
    }

    #[test]
    fn any_bytes_become_a_delivery(body in vec(any::<u8>(), 0..200), is_post_call in any::<bool>()) {
        let at = Timestamp::from_unix_secs(0).expect("a time");
        let route = if is_post_call { WebhookRoute::PostCall } else { WebhookRoute::Transcription };
        let delivery = read_delivery(WebhookRequest { route, remote_addr: None, headers: Vec::new(), body: body.clone() }, at, None, &naming());
        prop_assert_eq!(delivery.body, body);
    }

    /// A changed payload is rejected only if its type or conversation id was changed.
    #[test]
    fn a_changed_payload_is_accepted(at in any::<Index>(), mutations in vec(mutation(), 1..5)) {
        let mut value = fixtures()[at.index(fixtures().len())].clone();
        mutations.into_iter().for_each(|mutation| mutate(&mut value, mutation));
        let body = value.text();
        let delivery = read_at_route(WebhookRoute::PostCall, &body);
        check_storable(&delivery, &body);
        if let Change::Rejected { message, .. } = &delivery.change {
            prop_assert!(message.contains("`type`") || message.contains("`data") || message == "the body is not a JSON object", "{message}: {body}");
        }
    }

    #[test]
    fn known_content_survives_beside_odd_fields(
        texts in vec("[a-zé😀]{1,12}", 1..6),
        odd in vec((any::<String>(), json()), 0..5),
        analysis in json(),
        metadata in json(),
        summary in "[a-z ]{1,20}",
    ) {
        let turn = |text: &String| JsonTree::Object(vec![
            ("role".into(), JsonTree::Raw("\"user\"".into())),
            ("message".into(), JsonTree::Raw(serde_json::json!(text).to_string())),
        ]);
        let is_known = |key: &str| ["conversation_id", "transcript", "analysis", "metadata", "status", "type", "data"].contains(&key);
        let mut data = vec![
            ("conversation_id".to_owned(), JsonTree::Raw("\"conv_x\"".into())),
            ("transcript".to_owned(), JsonTree::List(texts.iter().map(turn).collect())),
            ("metadata".to_owned(), metadata.clone()),
            ("analysis".to_owned(), JsonTree::Object(vec![("transcript_summary".into(), JsonTree::Raw(format!("\"{summary}\""))), ("odd".into(), analysis)])),
        ];
        data.extend(odd.into_iter().filter(|(key, _)| !is_known(key)));
        let analysis = data[3].1.text();
        let envelope = JsonTree::Object(vec![
            ("data".into(), JsonTree::Object(data)),
            ("type".into(), JsonTree::Raw("\"post_call_transcription\"".into())),
        ]);
        let body = envelope.text();
        let Change::Result(result) = read_at_route(WebhookRoute::PostCall, &body).change else { panic!("refused: {body}") };
        let turn_texts: Vec<&String> = result.turns.iter().map(|turn| &turn.text).collect();
        prop_assert_eq!(turn_texts, texts.iter().collect::<Vec<_>>());
        prop_assert_eq!(result.data.transcript_summary, Some(summary));
        let repaired = |json: &str| {
            let text = callscope_common::json::replace_lone_surrogates(json).into_owned();
            callscope_common::json::replace_not_numbers(&text).into_owned()
        };
        prop_assert_eq!(result.data.analysis_data.as_ref().map(|raw| raw.get().to_owned()), Some(repaired(&analysis)));
        let metadata = Some(repaired(&metadata.text())).filter(|json| json != "null");
        for raw in [&result.data.analysis_data, &result.data.metadata].into_iter().flatten() {
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(raw.get()).is_ok(), "{raw}");
        }
        prop_assert_eq!(result.data.metadata.map(|raw| raw.get().to_owned()), metadata);
        prop_assert_eq!(result.names.conversation_id.map(|id| id.to_string()), Some("conv_x".to_owned()));
    }

    #[test]
    fn a_turns_text_survives_beside_odd_fields(text in any::<String>(), odd in vec(("[a-z]{1,3}", json()), 0..5)) {
        let mut fields = vec![
            ("call_sid".to_owned(), JsonTree::Raw("\"sid\"".into())),
            ("speaker".to_owned(), JsonTree::Raw("\"user\"".into())),
            ("message".to_owned(), JsonTree::Raw(serde_json::json!(text).to_string())),
        ];
        fields.extend(odd);
        match read_at_route(WebhookRoute::Transcription, &JsonTree::Object(fields).text()).change {
            Change::Turn(turn) => prop_assert_eq!(turn.text, text),
            Change::Rejected { .. } => prop_assert!(text.is_empty()),
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

/// Python's encoder writes `NaN` and `Infinity`, which are not JSON. They count as null; the delivery keeps the bytes.
#[test]
fn nan_and_infinity_count_as_null() {
    let body = r#"{"type":"post_call_transcription","data":{"conversation_id":"conv_nan","metadata":{"cost":NaN,"call_duration_secs":7,
        "x":[Infinity,-Infinity]},"analysis":NaN,"transcript":[{"role":"user","message":"NaN, Infinity","time_in_call_secs":NaN}]}}"#;
    let delivery = read_at_route(WebhookRoute::PostCall, body);
    assert_eq!(delivery.body, body.as_bytes());
    check_storable(&delivery, body);
    let Change::Result(result) = delivery.change else { panic!("refused") };
    assert_eq!((result.data.cost, result.data.duration_seconds), (None, Some(7)));
    assert!(result.data.analysis_data.is_none());
    assert_eq!(result.turns[0].text, "NaN, Infinity");
    assert!(result.data.metadata.expect("metadata").get().contains("[null,null]"));
    assert!(matches!(
        read_at_route(WebhookRoute::Transcription, r#"{"call_sid":NaN}"#).change,
        Change::Rejected { .. }
    ));
}

#[test]
fn a_body_with_a_content_encoding_is_rejected() {
    let read_with = |encodings: &[&str]| {
        let headers = encodings.iter().map(|value| ("content-encoding".to_owned(), (*value).to_owned())).collect();
        let body = br#"{"call_sid":"a","speaker":"user","message":"m"}"#.to_vec();
        let at = Timestamp::from_unix_secs(0).expect("a time");
        read_delivery(
            WebhookRequest { route: WebhookRoute::Transcription, remote_addr: None, headers, body },
            at,
            None,
            &naming(),
        )
        .change
    };
    for identity in [&[][..], &[""], &["identity"], &[" Identity "], &["identity, identity"]] {
        assert!(matches!(read_with(identity), Change::Turn(_)), "{identity:?}");
    }
    for encoded in [&["gzip"][..], &["br"], &["identity", "gzip"], &["identity, deflate"], &["x"]] {
        assert!(matches!(read_with(encoded), Change::Rejected { status: 415, .. }), "{encoded:?}");
    }
}
