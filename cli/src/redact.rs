//! Removes personal data from payloads, so that they can be shared as fixtures.
//!
//! Only values are replaced. Keys, their order, amounts, times and identifiers stay as they are, so the result is the
//! same webhook about a different person. Equal names, addresses and numbers get the same stand-in everywhere.

mod digits;
mod find;
mod path;

use std::collections::HashMap;

use callscope_common::json::{self, replace_lone_surrogates, replace_not_numbers};
use serde_json::value::RawValue;

use find::{People, Place, is_person_name_key, is_phone_key, looks_like_name};
pub(crate) use path::{Path, Step};

/// Maximum depth of a document. Deeper values become `null`: no real webhook nests so deep, and the walk recurses.
const MAX_DEPTH: usize = 100;
/// The stand-in for a string at one of the given paths.
const REDACTION: &str = "[redacted]";

/// Replaces personal data, values at given paths, or both.
#[derive(Debug)]
pub(crate) struct Redactor {
    /// The people found so far; `None` if phone numbers, e-mail addresses, names and recordings are kept.
    people: Option<People>,
    paths: Vec<Path>,
    /// How often each path matched.
    found: Vec<usize>,
}

impl Redactor {
    /// Creates a redactor of personal data, if `people` is set, and of the values at `paths`.
    pub(crate) fn new(people: bool, paths: Vec<Path>) -> Self {
        Self { people: people.then(People::default), found: vec![0; paths.len()], paths }
    }

    /// Whether the redactor changes nothing.
    pub(crate) fn is_noop(&self) -> bool {
        self.people.is_none() && self.paths.is_empty()
    }

    /// Returns the redacted document.
    ///
    /// # Errors
    /// Returns the reason if `text` is not JSON.
    pub(crate) fn document(&mut self, text: &str) -> Result<String, String> {
        let text = replace_lone_surrogates(text.strip_prefix('\u{feff}').unwrap_or(text));
        let text = replace_not_numbers(&text);
        let value: &RawValue = serde_json::from_str(&text).map_err(|error| format!("not JSON: {error}"))?;
        if let Some(people) = &mut self.people {
            let mut names = Vec::new();
            collect_names(value, &mut Vec::new(), &mut names);
            people.learn_names(&names);
        }
        let mut out = String::with_capacity(text.len());
        self.value(value, &mut Vec::new(), &mut out);
        Ok(out)
    }

    /// Returns the paths that matched in no document.
    pub(crate) fn unused(&self) -> impl Iterator<Item = &Path> {
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
            Some(b'"') if hidden => write_string(REDACTION, out),
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
        out.push('{');
        for (place, (key, value, step)) in members(value).into_iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            write_string(&key, out);
            out.push(':');
            let path = at.len();
            at.extend(step.into_iter().map(Step::Label));
            at.push(Step::Key(key));
            self.value(value, at, out);
            at.truncate(path);
        }
        out.push('}');
    }

    fn array(&mut self, value: &RawValue, at: &mut Vec<Step>, out: &mut String) {
        out.push('[');
        for (place, item) in json::array(value).into_iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            at.push(Step::Item(place));
            self.value(item, at, out);
            at.pop();
        }
        out.push(']');
    }

    fn string(&mut self, value: &RawValue, at: &mut Vec<Step>, out: &mut String) {
        let (Some(people), Ok(text)) = (&mut self.people, serde_json::from_str::<String>(value.get())) else {
            return out.push_str(value.get());
        };
        if let Some(inner) = embedded_json(&text) {
            // The string contains JSON, as parameters and results of tools do.
            let (mut redacted, mut same) = (String::new(), String::new());
            self.value(inner, at, &mut redacted);
            Self::new(false, Vec::new()).value(inner, at, &mut same);
            return if redacted == same { out.push_str(value.get()) } else { write_string(&redacted, out) };
        }
        let redacted = people.replace(place_of(at, Some(&text)), &text);
        // An unchanged string keeps its escapes.
        if redacted == text { out.push_str(value.get()) } else { write_string(&redacted, out) }
    }

    fn number(&mut self, text: &str, at: &[Step], out: &mut String) {
        match &mut self.people {
            Some(people) => out.push_str(&people.replace_number(place_of(at, None), text)),
            None => out.push_str(text),
        }
    }
}

/// Returns the object or array that a text contains, if it does.
fn embedded_json(text: &str) -> Option<&RawValue> {
    let is_json = text.trim_start().starts_with(['{', '[']);
    is_json.then(|| serde_json::from_str(text).ok()).flatten()
}

/// Classifies a value by its path. Values from the sender's own code are also classified by their form.
fn place_of<'k>(at: &'k [Step], text: Option<&str>) -> Place<'k> {
    let keys = || at.iter().filter_map(Step::name);
    let is_collected = keys().any(|key| key.starts_with("data_collection_results"));
    let is_own = is_collected || keys().any(|key| key == "dynamic_variables");
    let mut inward = keys().rev();
    let mut key = inward.next().unwrap_or_default();
    // A collected datum is under `value`, and its name is beside `value` or one level above.
    if is_collected && key == "value" {
        key = inward.next().unwrap_or_default();
    } else if is_collected && key != "data_collection_id" {
        // The other members are the schema and the rationale of the datum, not the datum itself.
        return Place { key, ..Place::default() };
    }
    let is_name = keys().any(|key| is_person_name_key(key, is_own)) || (is_own && text.is_some_and(looks_like_name));
    Place { key, is_name, is_phone: keys().any(is_phone_key) && !is_id(key) }
}

/// Whether a key's value is the identifier of something that is not a person.
fn is_id(key: &str) -> bool {
    let key = key.to_lowercase();
    key != "caller_id" && (key == "id" || key.ends_with("_id") || key.ends_with("sid"))
}

/// Returns the members of an object. The `value` of a collected datum comes with the name of the datum, if the name is
/// beside it.
fn members(value: &RawValue) -> Vec<(String, &RawValue, Option<String>)> {
    let object = json::object(value).unwrap_or_default();
    let collected = object.fields().find(|(key, _)| *key == "data_collection_id");
    let name = collected.and_then(|(_, id)| json::string(id));
    let named = |key| name.clone().filter(|_| key == "value");
    object.fields().map(|(key, value)| (key.to_owned(), value, named(key))).collect()
}

fn collect_names(value: &RawValue, at: &mut Vec<Step>, names: &mut Vec<String>) {
    if at.len() > MAX_DEPTH {
        return;
    }
    match value.get().as_bytes().first() {
        Some(b'{') => {
            for (key, value, name) in members(value) {
                let path = at.len();
                at.extend(name.into_iter().map(Step::Label));
                at.push(Step::Key(key));
                collect_names(value, at, names);
                at.truncate(path);
            }
        }
        Some(b'[') => {
            for (place, item) in json::array(value).into_iter().enumerate() {
                at.push(Step::Item(place));
                collect_names(item, at, names);
                at.pop();
            }
        }
        Some(b'"') => {
            let Ok(text) = serde_json::from_str::<String>(value.get()) else { return };
            match embedded_json(&text) {
                Some(inner) => collect_names(inner, at, names),
                None if place_of(at, Some(&text)).is_name => names.push(text),
                None => {}
            }
        }
        _ => {}
    }
}

fn write_string(text: &str, out: &mut String) {
    // A string is always JSON.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Stand-ins by the text that they replace, in lower case.
type StandIns = HashMap<String, String>;

#[cfg(test)]
#[path = "redact/redact_tests.rs"]
mod tests;
