//! Provider JSON of any shape: nothing panics, nothing that says something is lost, nothing is refused for what may
//! vary.

use std::path::Path;
use std::sync::LazyLock;

use callscope_common::protocol::{CallCompleted, ServerMessage};
use callscope_common::{CallData, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::naming::{CallLinks, Naming};
use super::{WebhookRequest, read_delivery};
use crate::log::{Change, Delivery, Route};

/// A JSON value that keeps the order and the repetitions of its keys, and numbers as they are spelled.
#[derive(Debug, Clone)]
enum JsonTree {
    Raw(String),
    List(Vec<JsonTree>),
    Object(Vec<(String, JsonTree)>),
}

impl JsonTree {
    fn of(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Array(items) => Self::List(items.iter().map(Self::of).collect()),
            serde_json::Value::Object(map) => Self::Object(map.iter().map(|(k, v)| (k.clone(), Self::of(v))).collect()),
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

    /// Every value below this one, and itself.
    fn count(&self) -> usize {
        1 + match self {
            Self::Raw(_) => 0,
            Self::List(items) => items.iter().map(Self::count).sum(),
            Self::Object(fields) => fields.iter().map(|(_, value)| value.count()).sum(),
        }
    }

    fn at(&mut self, mut place: usize) -> &mut Self {
        if place == 0 {
            return self;
        }
        place -= 1;
        let below: Vec<&mut Self> = match self {
            Self::Raw(_) => Vec::new(),
            Self::List(items) => items.iter_mut().collect(),
            Self::Object(fields) => fields.iter_mut().map(|(_, value)| value).collect(),
        };
        for value in below {
            let count = value.count();
            if place < count {
                return value.at(place);
            }
            place -= count;
        }
        unreachable!("a place within the value")
    }
}

/// Anything that JSON's grammar allows, and what encoders make of it.
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

/// Keys that are read, so that odd values end up under them.
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
            serde_json::from_str(&text).ok().map(|value| JsonTree::of(&value))
        };
        let mut found: Vec<(String, JsonTree)> =
            std::fs::read_dir(folder).expect("fixtures").filter_map(read).map(|json| (json.text(), json)).collect();
        found.retain(|(text, _)| text.len() < 20_000);
        found.sort_by(|one, other| one.0.cmp(&other.0));
        assert!(found.len() > 10, "the fixtures are gone");
        found.into_iter().map(|(_, json)| json).collect()
    });
    &FIXTURES
}

/// One change to a value somewhere inside.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(Index, JsonTree),
    Drop(Index, Index),
    Double(Index, Index, JsonTree),
    Add(Index, String, JsonTree),
    Wrap(Index, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = any::<Index>;
    prop_oneof![
        (place(), json()).prop_map(|(at, json)| Mutation::Replace(at, json)),
        (place(), place()).prop_map(|(at, field)| Mutation::Drop(at, field)),
        (place(), place(), json()).prop_map(|(at, field, json)| Mutation::Double(at, field, json)),
        (place(), any::<String>(), json()).prop_map(|(at, key, json)| Mutation::Add(at, key, json)),
        (place(), 1..200_usize).prop_map(|(at, depth)| Mutation::Wrap(at, depth)),
    ]
}

fn mutate(json: &mut JsonTree, mutation: Mutation) {
    let count = json.count();
    match mutation {
        Mutation::Replace(at, new) => *json.at(at.index(count)) = new,
        Mutation::Drop(at, field) => match json.at(at.index(count)) {
            JsonTree::Object(fields) if !fields.is_empty() => drop(fields.remove(field.index(fields.len()))),
            JsonTree::List(items) if !items.is_empty() => drop(items.remove(field.index(items.len()))),
            _ => {}
        },
        Mutation::Double(at, field, new) => {
            if let JsonTree::Object(fields) = json.at(at.index(count))
                && !fields.is_empty()
            {
                let key = fields[field.index(fields.len())].0.clone();
                fields.push((key, new));
            }
        }
        Mutation::Add(at, key, new) => {
            if let JsonTree::Object(fields) = json.at(at.index(count)) {
                fields.insert(0, (key, new));
            }
        }
        Mutation::Wrap(at, depth) => {
            let value = json.at(at.index(count));
            *value = JsonTree::Raw(format!("{}{}{}", "[".repeat(depth), value.text(), "]".repeat(depth)));
        }
    }
}

fn naming() -> Naming {
    Naming::by_links(CallLinks::new(&[]))
}

fn post_call(route: Route, body: &str) -> Delivery {
    let at = Timestamp::from_unix_secs(1_790_855_035).expect("a time");
    read_delivery(
        WebhookRequest { route, remote_addr: None, headers: Vec::new(), body: body.as_bytes().to_vec() },
        at,
        Some(0),
        &naming(),
    )
}

/// Whatever is taken must be storable and read back, or a merge would find the log damaged.
fn check_storable(delivery: &Delivery, body: &str) {
    let data = match &delivery.change {
        Change::Result(result) => {
            assert!(result.turns.iter().all(|turn| !turn.text.is_empty() && turn.offset_secs.is_finite()));
            &result.data
        }
        Change::Failure(failure) => &failure.data,
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
    fn any_json_is_taken_or_refused_for_a_reason(value in json(), route in any::<bool>()) {
        let body = value.text();
        let delivery = post_call(if route { Route::PostCall } else { Route::Transcription }, &body);
        check_storable(&delivery, &body);
        if let Change::Rejected { status, message, .. } = &delivery.change {
            prop_assert!(*status == 400 || *status == 413);
            prop_assert!(message != "the body is not JSON", "it is: {body}");
        }
    }

    #[test]
    fn any_bytes_are_taken_or_refused(body in vec(any::<u8>(), 0..200), route in any::<bool>()) {
        let at = Timestamp::from_unix_secs(0).expect("a time");
        let route = if route { Route::PostCall } else { Route::Transcription };
        let delivery = read_delivery(WebhookRequest { route, remote_addr: None, headers: Vec::new(), body: body.clone() }, at, None, &naming());
        prop_assert_eq!(delivery.body, body);
    }

    /// Payloads as they came, changed in places: refused only where the type or the conversation's id is no longer
    /// there.
    #[test]
    fn a_changed_payload_is_taken(at in any::<Index>(), mutations in vec(mutation(), 1..5)) {
        let mut value = fixtures()[at.index(fixtures().len())].clone();
        mutations.into_iter().for_each(|mutation| mutate(&mut value, mutation));
        let body = value.text();
        let delivery = post_call(Route::PostCall, &body);
        check_storable(&delivery, &body);
        if let Change::Rejected { message, .. } = &delivery.change {
            prop_assert!(message.contains("`type`") || message.contains("`data") || message == "the body is no JSON object", "{message}: {body}");
        }
    }

    /// What a result says is in what becomes of it, whatever else stands beside.
    #[test]
    fn known_content_survives_among_the_odd(
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
        let Change::Result(result) = post_call(Route::PostCall, &body).change else { panic!("refused: {body}") };
        let said: Vec<&String> = result.turns.iter().map(|turn| &turn.text).collect();
        prop_assert_eq!(said, texts.iter().collect::<Vec<_>>());
        prop_assert_eq!(result.data.transcript_summary, Some(summary));
        let fixed = |json: &str| {
            let text = callscope_common::json::replace_lone_surrogates(json).into_owned();
            callscope_common::json::replace_not_numbers(&text).into_owned()
        };
        prop_assert_eq!(result.data.analysis_data.as_ref().map(|raw| raw.get().to_owned()), Some(fixed(&analysis)));
        let metadata = Some(fixed(&metadata.text())).filter(|json| json != "null");
        for raw in [&result.data.analysis_data, &result.data.metadata].into_iter().flatten() {
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(raw.get()).is_ok(), "{raw}");
        }
        prop_assert_eq!(result.data.metadata.map(|raw| raw.get().to_owned()), metadata);
        prop_assert_eq!(result.names.conversation_id.map(|id| id.to_string()), Some("conv_x".to_owned()));
    }

    #[test]
    fn a_turns_text_survives_among_the_odd(text in any::<String>(), odd in vec(("[a-z]{1,3}", json()), 0..5)) {
        let mut fields = vec![
            ("call_sid".to_owned(), JsonTree::Raw("\"sid\"".into())),
            ("speaker".to_owned(), JsonTree::Raw("\"user\"".into())),
            ("message".to_owned(), JsonTree::Raw(serde_json::json!(text).to_string())),
        ];
        fields.extend(odd);
        match post_call(Route::Transcription, &JsonTree::Object(fields).text()).change {
            Change::Turn(turn) => prop_assert_eq!(turn.text, text),
            Change::Rejected { .. } => prop_assert!(text.is_empty()),
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

/// What Python's encoder writes where a number is none counts as null, wherever it stands; the delivery keeps the
/// bytes.
#[test]
fn what_is_no_number_is_null() {
    let body = r#"{"type":"post_call_transcription","data":{"conversation_id":"conv_nan","metadata":{"cost":NaN,"call_duration_secs":7,
        "x":[Infinity,-Infinity]},"analysis":NaN,"transcript":[{"role":"user","message":"NaN, Infinity","time_in_call_secs":NaN}]}}"#;
    let delivery = post_call(Route::PostCall, body);
    assert_eq!(delivery.body, body.as_bytes());
    check_storable(&delivery, body);
    let Change::Result(result) = delivery.change else { panic!("refused") };
    assert_eq!((result.data.cost, result.data.duration_seconds), (None, Some(7)));
    assert!(result.data.analysis_data.is_none());
    assert_eq!(result.turns[0].text, "NaN, Infinity");
    assert!(result.data.metadata.expect("metadata").get().contains("[null,null]"));
    assert!(matches!(post_call(Route::Transcription, r#"{"call_sid":NaN}"#).change, Change::Rejected { .. }));
}

#[test]
fn an_encoded_body_is_refused_for_that() {
    let read_with = |encodings: &[&str]| {
        let headers = encodings.iter().map(|value| ("content-encoding".to_owned(), (*value).to_owned())).collect();
        let body = br#"{"call_sid":"a","speaker":"user","message":"m"}"#.to_vec();
        let at = Timestamp::from_unix_secs(0).expect("a time");
        read_delivery(
            WebhookRequest { route: Route::Transcription, remote_addr: None, headers, body },
            at,
            None,
            &naming(),
        )
        .change
    };
    for plain in [&[][..], &[""], &["identity"], &[" Identity "], &["identity, identity"]] {
        assert!(matches!(read_with(plain), Change::Turn(_)), "{plain:?}");
    }
    for encoded in [&["gzip"][..], &["br"], &["identity", "gzip"], &["identity, deflate"], &["x"]] {
        assert!(matches!(read_with(encoded), Change::Rejected { status: 415, .. }), "{encoded:?}");
    }
}
