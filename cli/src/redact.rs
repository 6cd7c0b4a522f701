//! Payloads without people in them: fixtures that may be shown around.
//!
//! Values are replaced where they stand; keys, their order, numbers and identifiers stay as they came, so that what is left is
//! the same webhook about somebody else. The same person, address or number becomes the same stand-in throughout.

mod find;
mod path;

use std::collections::HashMap;
use std::fmt;

use callscope_common::json::replace_lone_surrogates;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use find::{People, names_person, phone_key};
pub use path::{Path, Step};

/// Deeper values are dropped: no webhook nests so deep, and nobody would look there.
const MAX_DEPTH: usize = 100;
/// What stands for a value that was asked to be replaced.
const REDACTED: &str = "[redacted]";

/// Replaces what it is asked to.
#[derive(Debug)]
pub struct Redactor {
    /// Whether phone numbers, e-mail addresses, names and recordings are replaced.
    people: Option<People>,
    paths: Vec<Path>,
    /// How often each path was found.
    found: Vec<usize>,
}

impl Redactor {
    /// Replaces people where `people` says so, and the values at `paths`.
    pub fn new(people: bool, paths: Vec<Path>) -> Self {
        Self { people: people.then(People::default), found: vec![0; paths.len()], paths }
    }

    /// Whether there is anything to do.
    pub fn is_idle(&self) -> bool {
        self.people.is_none() && self.paths.is_empty()
    }

    /// The document without what is to be replaced; the reason where it is not JSON.
    pub fn document(&mut self, text: &str) -> Result<String, String> {
        let text = replace_lone_surrogates(text.strip_prefix('\u{feff}').unwrap_or(text));
        let value: &RawValue = serde_json::from_str(&text).map_err(|error| format!("not JSON: {error}"))?;
        if let Some(people) = &mut self.people {
            let mut names = Vec::new();
            collect_names(value, 0, &mut names);
            people.meet(&names);
        }
        let mut out = String::with_capacity(text.len());
        self.value(value, &mut Vec::new(), &mut out);
        Ok(out)
    }

    /// The paths that were in none of the documents.
    pub fn unused(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().zip(&self.found).filter(|(_, found)| **found == 0).map(|(path, _)| path)
    }

    fn value(&mut self, value: &RawValue, at: &mut Vec<Step>, out: &mut String) {
        let mut hidden = false;
        for (path, found) in self.paths.iter().zip(&mut self.found) {
            if path.leads_to(at) {
                *found += 1;
                hidden = true;
            }
        }
        let text = value.get();
        match text.as_bytes().first() {
            _ if at.len() > MAX_DEPTH => out.push_str("null"),
            Some(b'"') if hidden => write_string(REDACTED, out),
            Some(b'{' | b'[' | b't' | b'f' | b'n') if hidden => out.push_str("null"),
            Some(_) if hidden => out.push('0'),
            Some(b'{') => self.object(value, at, out),
            Some(b'[') => self.array(value, at, out),
            Some(b'"') => self.string(value, at, out),
            Some(b'-' | b'0'..=b'9') => self.number(text, at, out),
            _ => out.push_str(text),
        }
    }

    fn object(&mut self, value: &RawValue, at: &mut Vec<Step>, out: &mut String) {
        let fields = fields(value);
        out.push('{');
        for (place, (key, value)) in fields.into_iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            write_string(&key, out);
            out.push(':');
            at.push(Step::Key(key));
            self.value(value, at, out);
            at.pop();
        }
        out.push('}');
    }

    fn array(&mut self, value: &RawValue, at: &mut Vec<Step>, out: &mut String) {
        let items: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
        out.push('[');
        for (place, item) in items.into_iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            at.push(Step::Item(place));
            self.value(item, at, out);
            at.pop();
        }
        out.push(']');
    }

    fn string(&mut self, value: &RawValue, at: &[Step], out: &mut String) {
        let (Some(people), Ok(text)) = (&mut self.people, serde_json::from_str::<String>(value.get())) else {
            return out.push_str(value.get());
        };
        let key = key_of(at);
        let redacted = people.replace(key, &text);
        // What needs no change keeps its spelling too.
        if redacted == text { out.push_str(value.get()) } else { write_string(&redacted, out) }
    }

    fn number(&mut self, text: &str, at: &[Step], out: &mut String) {
        match &mut self.people {
            Some(people) if phone_key(key_of(at)) && text.len() >= 7 && text.bytes().all(|b| b.is_ascii_digit()) => {
                out.push_str(people.number(text).trim_start_matches('+'));
            }
            _ => out.push_str(text),
        }
    }
}

/// The key that a value stands under, lists aside.
fn key_of(at: &[Step]) -> &str {
    at.iter().rev().find_map(|step| if let Step::Key(key) = step { Some(key.as_str()) } else { None }).unwrap_or("")
}

fn collect_names(value: &RawValue, depth: usize, names: &mut Vec<String>) {
    if depth > MAX_DEPTH {
        return;
    }
    match value.get().as_bytes().first() {
        Some(b'{') => {
            for (key, value) in fields(value) {
                match serde_json::from_str::<String>(value.get()) {
                    Ok(name) if names_person(&key) => names.push(name),
                    Ok(_) => {}
                    Err(_) => collect_names(value, depth + 1, names),
                }
            }
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
            items.into_iter().for_each(|item| collect_names(item, depth + 1, names));
        }
        _ => {}
    }
}

/// An object's fields, in their order.
fn fields(value: &RawValue) -> Vec<(String, &RawValue)> {
    struct Fields<'a>(Vec<(String, &'a RawValue)>);
    impl<'de> Deserialize<'de> for Fields<'de> {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct All;
            impl<'de> Visitor<'de> for All {
                type Value = Fields<'de>;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a JSON object")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                    let mut fields = Vec::new();
                    while let Some(field) = map.next_entry()? {
                        fields.push(field);
                    }
                    Ok(Fields(fields))
                }
            }
            deserializer.deserialize_map(All)
        }
    }
    serde_json::from_str::<Fields<'_>>(value.get()).map(|fields| fields.0).unwrap_or_default()
}

fn write_string(text: &str, out: &mut String) {
    // A string is always JSON.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Stand-ins by what they stand for.
type StandIns = HashMap<String, String>;

#[cfg(test)]
#[path = "redact/redact_tests.rs"]
mod tests;
