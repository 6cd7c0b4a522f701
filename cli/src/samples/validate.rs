//! Compares a payload with what Callscope accepts and with ElevenLabs' model.

use callscope_common::json::{Object, replace_lone_surrogates};
use callscope_common::{Identifier, Speaker, Timestamp, json};
use serde_json::value::RawValue;

use super::model::{self, Shape};

/// Longest message of a turn, in UTF-8. The server has the same limit.
const MAX_TURN_BYTES: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Callscope refuses the payload.
    Refused,
    /// Callscope accepts the payload, but it differs from ElevenLabs' model.
    Wrong,
    /// A field or value that the model does not have. ElevenLabs may add some at any time.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remark {
    pub(crate) level: Level,
    /// The place, such as `data.transcript[3].message`; empty for the whole payload.
    pub(crate) path: String,
    pub(crate) what: String,
}

/// Returns the remarks on `body`, in the order of its fields.
pub(crate) fn validate(body: &str) -> Vec<Remark> {
    let mut remarks = Remarks(Vec::new());
    let readable = replace_lone_surrogates(body);
    if readable != body {
        remarks.add(Level::Wrong, "", "a lone surrogate is shown as U+FFFD");
    }
    match Object::parse(&readable) {
        Err(_) => match serde_json::from_str::<&RawValue>(&readable) {
            Ok(_) => remarks.add(Level::Refused, "", "the body is not a JSON object"),
            Err(error) => remarks.add(Level::Refused, "", format!("not JSON: {error}")),
        },
        Ok(object) if object.get("type").is_none() && object.get("speaker").is_some() => remarks.check_turn(&object),
        Ok(envelope) => remarks.check_envelope(&envelope),
    }
    remarks.0
}

struct Remarks(Vec<Remark>);

impl Remarks {
    fn add(&mut self, level: Level, path: &str, what: impl Into<String>) {
        self.0.push(Remark { level, path: path.to_owned(), what: what.into() });
    }

    fn check_envelope(&mut self, envelope: &Object<'_>) {
        let Some(kind) = envelope.string("type") else {
            return self.add(Level::Refused, "type", "is missing or not a text; it is the type of the webhook");
        };
        self.check_object("", envelope, "envelope");
        if model::fields(&kind).is_none() || !["post_call", "call_init"].iter().any(|known| kind.starts_with(known)) {
            return self.add(
                Level::Unknown,
                "type",
                format!("Callscope stores the type {kind} and otherwise ignores it"),
            );
        }
        let Some(data) = envelope.object("data") else {
            return self.add(Level::Refused, "data", "is missing or not an object");
        };
        self.check_identifier("data.conversation_id", data.get("conversation_id"), true);
        self.check_object("data", &data, &kind);
    }

    fn check_turn(&mut self, turn: &Object<'_>) {
        self.check_identifier("call_sid", turn.get("call_sid"), false);
        self.check_identifier("conversation_id", turn.get("conversation_id"), false);
        if turn.get("call_sid").is_none() && turn.get("conversation_id").is_none() {
            self.add(Level::Refused, "", "call_sid and conversation_id are both missing; a turn needs one of them");
        }
        if turn.string("speaker").is_none_or(|speaker| speaker.parse::<Speaker>().is_err()) {
            self.add(Level::Refused, "speaker", "is none of agent, user, tool");
        }
        match turn.string("message") {
            None => self.add(Level::Refused, "message", "is missing or not a text"),
            Some(text) if text.is_empty() => self.add(Level::Refused, "message", "is empty"),
            Some(text) if text.len() > MAX_TURN_BYTES => {
                self.add(Level::Refused, "message", format!("has {} bytes; the limit is {MAX_TURN_BYTES}", text.len()));
            }
            Some(_) => {}
        }
        let is_time =
            |text: String| Timestamp::parse_rfc3339(text.trim()).is_some() || text.trim().parse::<f64>().is_ok();
        if turn.text("timestamp").is_some_and(|text| !is_time(text)) {
            self.add(Level::Refused, "timestamp", "is neither RFC 3339 nor Unix seconds");
        }
        if turn.get("is_final").is_some_and(|value| !["true", "false"].contains(&value.get())) {
            self.add(Level::Refused, "is_final", "is neither true nor false");
        }
        for (key, _) in turn.fields() {
            if model::fields("live turn").is_some_and(|fields| !fields.contains_key(key)) {
                self.add(Level::Unknown, key, "is a field that is not known");
            }
        }
    }

    fn check_identifier(&mut self, path: &str, value: Option<&RawValue>, required: bool) {
        let Some(value) = value else {
            if required {
                self.add(Level::Refused, path, "is missing; it identifies the call");
            }
            return;
        };
        match json::string(value) {
            None => self.add(
                Level::Refused,
                path,
                format!("is {}; it has to be a text that identifies the call", kind_of(value)),
            ),
            Some(text) => {
                if let Err(error) = Identifier::parse(&text) {
                    self.add(Level::Refused, path, error.to_string());
                }
            }
        }
    }

    fn check_object(&mut self, path: &str, object: &Object<'_>, model: &str) {
        let Some(fields) = model::fields(model) else { return };
        for (key, value) in object.fields() {
            let path = join(path, key);
            match fields.get(key) {
                None => self.add(Level::Unknown, &path, "is a field that is not known"),
                // An optional field may be null.
                Some(field) if value.get() == "null" && !field.required => {}
                Some(field) => self.check_value(&path, value, &field.shape),
            }
        }
        for (key, _) in fields.iter().filter(|(key, field)| field.required && !object.has(key)) {
            let path = join(path, key);
            if !self.0.iter().any(|remark| remark.path == path) {
                self.add(Level::Wrong, &path, "is missing; ElevenLabs always sends it");
            }
        }
    }

    fn check_value(&mut self, path: &str, value: &RawValue, shape: &Shape) {
        let found = kind_of(value);
        let wanted = match shape {
            Shape::Any => return,
            Shape::Text if found == "a text" => return,
            Shape::Bool if found == "true or false" => return,
            Shape::Number if found.ends_with("number") => return,
            Shape::Integer if found == "a whole number" => return,
            Shape::OneOf(known) if found == "a text" => {
                let text = json::string(value).unwrap_or_default();
                if !known.contains(&text.as_str()) {
                    self.add(Level::Unknown, path, format!("{text:?} is none of {}", known.join(", ")));
                }
                return;
            }
            Shape::Object(model) => match json::object(value) {
                Some(object) => return self.check_object(path, &object, model),
                None => "an object",
            },
            Shape::Map(item) => match json::object(value) {
                Some(object) => {
                    for (key, value) in object.fields() {
                        self.check_value(&join(path, key), value, item);
                    }
                    return;
                }
                None => "an object",
            },
            Shape::List(item) if found == "a list" => {
                for (place, value) in json::array(value).into_iter().enumerate() {
                    self.check_value(&format!("{path}[{place}]"), value, item);
                }
                return;
            }
            Shape::Text | Shape::OneOf(_) => "a text",
            Shape::Bool => "true or false",
            Shape::Number => "a number",
            Shape::Integer => "a whole number",
            Shape::List(_) => "a list",
        };
        if !self.0.iter().any(|remark| remark.path == path && remark.level == Level::Refused) {
            self.add(Level::Wrong, path, format!("is {found}; ElevenLabs sends {wanted}"));
        }
    }
}

fn join(path: &str, key: &str) -> String {
    // A key with such characters is quoted, as in the paths of `--set`.
    let key = if key.contains(['.', '[', ']', ' ']) { format!("\"{key}\"") } else { key.to_owned() };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// Names the type of a value for messages.
fn kind_of(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'"') => "a text",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ if value.get().contains(['.', 'e', 'E']) => "a number",
        _ => "a whole number",
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
