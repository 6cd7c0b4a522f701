//! What is searched for and filtered by.

use std::ops::Range;

use regex::{Regex, RegexBuilder};

/// A regular expression; where the text is none, the text itself. Upper and lower case are the same unless it has an
/// upper-case letter.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// Of what was typed; `None` for nothing.
    pub fn new(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let sensitive = text.chars().any(char::is_uppercase);
        let build = |text: &str| RegexBuilder::new(text).case_insensitive(!sensitive).size_limit(1 << 20).build();
        let regex = build(text).or_else(|_| build(&regex::escape(text))).ok()?;
        Some(Self { text: text.to_owned(), regex })
    }

    /// As it was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it occurs in `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Where it occurs in `text`.
    pub fn ranges<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        self.regex.find_iter(text).map(|found| found.range()).filter(|range| !range.is_empty())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn case_counts_only_where_it_was_typed() {
        assert!(Pattern::new("tow").unwrap().matches("TOW truck"));
        assert!(!Pattern::new("Tow").unwrap().matches("tow truck"));
        assert!(Pattern::new("t.w|car").unwrap().matches("my car"));
    }

    #[test]
    fn what_is_no_expression_is_taken_by_the_letter() {
        assert!(Pattern::new("a(b").unwrap().matches("xa(bx"));
        assert!(Pattern::new("").is_none());
    }
}
