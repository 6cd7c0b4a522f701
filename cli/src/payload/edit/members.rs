//! Where the members of a JSON text's objects and arrays stand.

use std::ops::Range;

use callscope_common::json::{self, replace_lone_surrogates};
use serde_json::value::RawValue;

/// What an object or array holds, by place in the text.
pub(crate) struct Members {
    pub(crate) is_array: bool,
    /// The place behind the opening bracket.
    begin: usize,
    /// Keys of an object, and where the values stand, in the order of the text.
    pub(crate) all: Vec<(Option<String>, Range<usize>)>,
}

impl Members {
    /// Of the JSON text's value at `range`; `None` where that is neither an object nor an array.
    pub(crate) fn of(json: &str, range: &Range<usize>) -> Option<Self> {
        // This has the length of the text, so places in it are places in the text.
        let readable = replace_lone_surrogates(json.get(range.clone())?);
        let value: &RawValue = serde_json::from_str(&readable).ok()?;
        let place = |value: &RawValue| {
            let start = range.start + value.get().as_ptr().addr() - readable.as_ptr().addr();
            start..start + value.get().len()
        };
        let is_array = value.get().starts_with('[');
        let all = if is_array {
            json::array(value).into_iter().map(|item| (None, place(item))).collect()
        } else {
            json::object(value)?.fields().map(|(key, value)| (Some(key.to_owned()), place(value))).collect()
        };
        Some(Self { is_array, begin: place(value).start + 1, all })
    }

    /// The place behind the last member.
    pub(crate) fn end(&self) -> usize {
        self.all.last().map_or(self.begin, |(_, value)| value.end)
    }

    /// A member and the comma that goes with it; where several go, each takes the comma before it or, as the first,
    /// behind it.
    pub(crate) fn with_comma(&self, json: &str, member: usize, alone: bool) -> Range<usize> {
        let end = self.all[member].1.end;
        match member.checked_sub(1) {
            Some(before) if alone => self.all[before].1.end..end,
            _ if member + 1 < self.all.len() => self.start(json, member)..self.start(json, member + 1),
            _ => self.start(json, member)..end,
        }
    }

    /// Where a member begins: with its key, or its value.
    fn start(&self, json: &str, member: usize) -> usize {
        let before = member.checked_sub(1).map_or(self.begin, |before| self.all[before].1.end);
        let rest = json.get(before..).unwrap_or_default();
        before + rest.find(|c: char| c != ',' && !c.is_ascii_whitespace()).unwrap_or(0)
    }
}
