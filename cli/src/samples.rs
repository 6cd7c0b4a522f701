//! The payloads shipped in the binary.

mod model;
mod template;
mod validate;

use serde::Deserialize;

pub(crate) use template::{all_names, is_known, names, of_event};
pub(crate) use validate::{Level, Remark, validate};

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/samples.rs"));
}

/// A shipped payload.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// What it is asked for by.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) title: String,
    /// Which kind of payload.
    pub(crate) kind: String,
    pub(crate) text: &'static str,
}

/// Every sample, in the order of the index; those it leaves out come last.
pub(crate) fn all() -> Vec<Sample> {
    #[derive(Deserialize)]
    struct Listed {
        name: String,
        #[serde(default)]
        title: String,
        #[serde(default)]
        kind: String,
    }
    let index: Vec<Listed> = serde_json::from_str(embedded::INDEX).unwrap_or_default();
    let mut samples: Vec<(usize, Sample)> = embedded::FILES
        .iter()
        .map(|&(name, text)| {
            let place = index.iter().position(|listed| listed.name == name);
            let listed = place.and_then(|place| index.get(place));
            let (title, kind) =
                listed.map_or_else(Default::default, |listed| (listed.title.clone(), listed.kind.clone()));
            (place.unwrap_or(usize::MAX), Sample { name, title, kind, text })
        })
        .collect();
    samples.sort_by_key(|(place, _)| *place);
    samples.into_iter().map(|(_, sample)| sample).collect()
}

/// The one of `names` that `typed` is most like, if it is like any.
pub(crate) fn nearest<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let typed = typed.to_lowercase();
    let likeness = |name: &str| {
        let begins = typed.len() >= 3 && (name.starts_with(&typed) || typed.starts_with(name));
        if begins { 1.0 } else { strsim::jaro(&typed, name) }
    };
    let named = names.into_iter().map(|name| (likeness(name), name));
    named
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

/// `what`, with the sample whose name is most like `typed` behind it.
pub(crate) fn meant(what: String, typed: &str) -> String {
    match nearest(typed, all().iter().map(|sample| sample.name)) {
        Some(name) => format!("{what}; did you mean {name}?"),
        None => what,
    }
}

/// The sample called `name`.
pub(crate) fn find(name: &str) -> Option<Sample> {
    all().into_iter().find(|sample| sample.name == name)
}
