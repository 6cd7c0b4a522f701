//! The byte ranges of the members of an object or array in a JSON text.

use std::ops::Range;

use callscope_common::json::{self, replace_lone_surrogates};
use serde_json::value::RawValue;

/// The members of an object or array, as byte ranges of the text.
pub(crate) struct Members {
    pub(crate) is_array: bool,
    /// The offset after the opening bracket.
    begin: usize,
    /// The keys, which only an object has, and the ranges of the values, in the order of the text.
    pub(crate) all: Vec<(Option<String>, Range<usize>)>,
}

impl Members {
    /// Reads the value at `range`; `None` if it is neither an object nor an array.
    pub(crate) fn of(json: &str, range: &Range<usize>) -> Option<Self> {
        // The replaced text has the same length, so offsets in it are offsets in the original.
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

    /// Returns the offset after the last member.
    pub(crate) fn end(&self) -> usize {
        self.all.last().map_or(self.begin, |(_, value)| value.end)
    }

    /// Returns the range to remove for a member: the member and one comma. A member that is removed alone takes the
    /// comma before it. Otherwise it takes the comma after it, so that the removed ranges do not overlap.
    pub(crate) fn with_comma(&self, json: &str, member: usize, alone: bool) -> Range<usize> {
        let end = self.all[member].1.end;
        match member.checked_sub(1) {
            Some(before) if alone => self.all[before].1.end..end,
            _ if member + 1 < self.all.len() => self.start(json, member)..self.start(json, member + 1),
            _ => self.start(json, member)..end,
        }
    }

    /// Returns where a member begins: at its key, or at its value in an array.
    fn start(&self, json: &str, member: usize) -> usize {
        let before = member.checked_sub(1).map_or(self.begin, |before| self.all[before].1.end);
        let rest = json.get(before..).unwrap_or_default();
        before + rest.find(|c: char| c != ',' && !c.is_ascii_whitespace()).unwrap_or(0)
    }
}
