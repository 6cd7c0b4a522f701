//! The sample payloads, which are embedded in the binary.

mod model;
mod template;
mod validate;

use serde::Deserialize;

pub(crate) use template::{event_names, is_known, template, type_names};
pub(crate) use validate::{Level, Remark, validate};

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/samples.rs"));
}

/// A shipped payload.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) title: String,
    /// The type of the webhook, or `turn`.
    pub(crate) kind: String,
    pub(crate) text: &'static str,
}

/// Returns all samples in the order of the index. Samples that are not in the index come last.
pub(crate) fn all() -> Vec<Sample> {
    #[derive(Deserialize)]
    struct IndexEntry {
        name: String,
        #[serde(default)]
        title: String,
        #[serde(default)]
        kind: String,
    }
    let index: Vec<IndexEntry> = serde_json::from_str(embedded::INDEX).unwrap_or_default();
    let mut samples: Vec<(usize, Sample)> = embedded::FILES
        .iter()
        .map(|&(name, text)| {
            let position = index.iter().position(|entry| entry.name == name);
            let entry = position.and_then(|position| index.get(position));
            let (title, kind) = entry.map_or_else(Default::default, |entry| (entry.title.clone(), entry.kind.clone()));
            (position.unwrap_or(usize::MAX), Sample { name, title, kind, text })
        })
        .collect();
    samples.sort_by_key(|(position, _)| *position);
    samples.into_iter().map(|(_, sample)| sample).collect()
}

/// Names less similar than this (Jaro similarity, 0 to 1) are not suggested.
const MIN_SIMILARITY: f64 = 0.7;

/// Returns the name that `typed` resembles most, if it resembles any.
pub(crate) fn nearest<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let typed = typed.to_lowercase();
    let similarity = |name: &str| {
        let is_prefix = typed.len() >= 3 && (name.starts_with(&typed) || typed.starts_with(name));
        if is_prefix { 1.0 } else { strsim::jaro(&typed, name) }
    };
    let rated = names.into_iter().map(|name| (similarity(name), name));
    rated
        .filter(|(similarity, _)| *similarity > MIN_SIMILARITY)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

/// Appends the sample whose name is most similar to `typed` to an error message.
pub(crate) fn with_suggestion(message: String, typed: &str) -> String {
    match nearest(typed, all().iter().map(|sample| sample.name)) {
        Some(name) => format!("{message}; did you mean {name}?"),
        None => message,
    }
}

pub(crate) fn find(name: &str) -> Option<Sample> {
    all().into_iter().find(|sample| sample.name == name)
}
