//! What is wrong with a payload, and what is merely unknown.

use callscope_common::json::{Object, replace_lone_surrogates};
use callscope_common::{Identifier, Speaker, Timestamp, json};
use serde_json::value::RawValue;

use super::model::{self, Shape};

/// Longest message of a turn, in bytes of UTF-8.
const LONGEST_TURN: usize = 65_536;

/// How much a remark weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Callscope refuses it.
    Refused,
    /// Callscope takes it, but ElevenLabs' own model says otherwise.
    Wrong,
    /// A field or value that is not known; the vendor adds them at any time.
    Unknown,
}

/// Something worth knowing about a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remark {
    /// How much it weighs.
    pub(crate) level: Level,
    /// Where: `data.transcript[3].message`; empty for all of it.
    pub(crate) path: String,
    pub(crate) what: String,
}

/// Everything worth knowing about `body`, in its own order.
pub(crate) fn validate(body: &str) -> Vec<Remark> {
    let mut remarks = Remarks(Vec::new());
    let readable = replace_lone_surrogates(body);
    if readable != body {
        remarks.add(Level::Wrong, "", "half of a surrogate pair stands alone; it is shown as U+FFFD");
    }
    match Object::parse(&readable) {
        Err(_) => match serde_json::from_str::<&RawValue>(&readable) {
            Ok(_) => remarks.add(Level::Refused, "", "the body is no JSON object"),
            Err(error) => remarks.add(Level::Refused, "", format!("not JSON: {error}")),
        },
        Ok(object) if object.get("type").is_none() && object.get("speaker").is_some() => remarks.turn(&object),
        Ok(envelope) => remarks.envelope(&envelope),
    }
    remarks.0
}

struct Remarks(Vec<Remark>);

impl Remarks {
    fn add(&mut self, level: Level, path: &str, what: impl Into<String>) {
        self.0.push(Remark { level, path: path.to_owned(), what: what.into() });
    }

    fn envelope(&mut self, envelope: &Object<'_>) {
        let Some(kind) = envelope.string("type") else {
            return self.add(Level::Refused, "type", "is missing or no text; it says which webhook this is");
        };
        self.object("", envelope, "envelope");
        if model::fields(&kind).is_none() || !["post_call", "call_init"].iter().any(|known| kind.starts_with(known)) {
            return self.add(Level::Unknown, "type", format!("{kind} is a type that Callscope keeps and ignores"));
        }
        let Some(data) = envelope.object("data") else {
            return self.add(Level::Refused, "data", "is missing or no object");
        };
        self.name("data.conversation_id", data.get("conversation_id"), true);
        self.object("data", &data, &kind);
    }

    fn turn(&mut self, turn: &Object<'_>) {
        self.name("call_sid", turn.get("call_sid"), false);
        self.name("conversation_id", turn.get("conversation_id"), false);
        if turn.get("call_sid").is_none() && turn.get("conversation_id").is_none() {
            self.add(Level::Refused, "", "neither call_sid nor conversation_id is there: a turn names its call");
        }
        if turn.string("speaker").is_none_or(|speaker| speaker.parse::<Speaker>().is_err()) {
            self.add(Level::Refused, "speaker", "is none of agent, user, tool");
        }
        match turn.string("message") {
            None => self.add(Level::Refused, "message", "is missing or no text"),
            Some(text) if text.is_empty() => self.add(Level::Refused, "message", "is empty"),
            Some(text) if text.len() > LONGEST_TURN => {
                self.add(Level::Refused, "message", format!("has {} bytes; {LONGEST_TURN} are taken", text.len()));
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

    /// An identifier of a call.
    fn name(&mut self, path: &str, value: Option<&RawValue>, required: bool) {
        let Some(value) = value else {
            if required {
                self.add(Level::Refused, path, "is missing; it names the call");
            }
            return;
        };
        match json::string(value) {
            None => self.add(Level::Refused, path, format!("is {}, and names the call as a text", kind_of(value))),
            Some(text) => {
                if let Err(error) = Identifier::parse(&text) {
                    self.add(Level::Refused, path, error.to_string());
                }
            }
        }
    }

    fn object(&mut self, path: &str, object: &Object<'_>, model: &str) {
        let Some(fields) = model::fields(model) else { return };
        for (key, value) in object.fields() {
            let path = join(path, key);
            match fields.get(key) {
                None => self.add(Level::Unknown, &path, "is a field that is not known"),
                // Any optional field may be null; so may a required one as far as Callscope is concerned.
                Some(field) if value.get() == "null" && !field.required => {}
                Some(field) => self.value(&path, value, &field.shape),
            }
        }
        for (key, _) in fields.iter().filter(|(key, field)| field.required && !object.has(key)) {
            let path = join(path, key);
            if !self.0.iter().any(|remark| remark.path == path) {
                self.add(Level::Wrong, &path, "is missing; ElevenLabs always sends it");
            }
        }
    }

    fn value(&mut self, path: &str, value: &RawValue, shape: &Shape) {
        let found = kind_of(value);
        let wanted = match shape {
            Shape::Any => return,
            Shape::Text if found == "a text" => return,
            Shape::Bool if found == "true or false" => return,
            Shape::Number if found.ends_with("number") => return,
            Shape::Whole if found == "a whole number" => return,
            Shape::OneOf(known) if found == "a text" => {
                let text = json::string(value).unwrap_or_default();
                if !known.contains(&text.as_str()) {
                    self.add(Level::Unknown, path, format!("{text:?} is none of {}", known.join(", ")));
                }
                return;
            }
            Shape::Object(model) => match json::object(value) {
                Some(object) => return self.object(path, &object, model),
                None => "an object",
            },
            Shape::Map(item) => match json::object(value) {
                Some(object) => {
                    for (key, value) in object.fields() {
                        self.value(&join(path, key), value, item);
                    }
                    return;
                }
                None => "an object",
            },
            Shape::List(item) if found == "a list" => {
                for (place, value) in json::array(value).into_iter().enumerate() {
                    self.value(&format!("{path}[{place}]"), value, item);
                }
                return;
            }
            Shape::Text | Shape::OneOf(_) => "a text",
            Shape::Bool => "true or false",
            Shape::Number => "a number",
            Shape::Whole => "a whole number",
            Shape::List(_) => "a list",
        };
        if !self.0.iter().any(|remark| remark.path == path && remark.level == Level::Refused) {
            self.add(Level::Wrong, path, format!("is {found}; ElevenLabs sends {wanted}"));
        }
    }
}

fn join(path: &str, key: &str) -> String {
    // As `--set` reads it.
    let key = if key.contains(['.', '[', ']', ' ']) { format!("\"{key}\"") } else { key.to_owned() };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// What a value is, for people.
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
