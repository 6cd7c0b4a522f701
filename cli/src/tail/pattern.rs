//! Patterns to search and filter transcripts by.

use std::ops::Range;
use std::str::FromStr;

use regex::{Regex, RegexBuilder};

use crate::term::drawable::normalized;

/// A regular expression that matches a letter with its marks in every Unicode spelling.
///
/// A pattern typed into a view ([`Pattern::new`]) ignores case unless it has a capital letter, and is taken literally
/// if it is not a valid expression. A pattern of the command line ([`FromStr`]) is always a regular expression.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// Reads a pattern that the user typed; `None` if it is empty.
    pub(crate) fn new(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let composed = normalized(text);
        let ignore_case = |expression: &str| Self::build(text, expression, !has_capital(expression));
        ignore_case(&composed).or_else(|_| ignore_case(&regex::escape(&composed))).ok()
    }

    fn build(text: &str, expression: &str, ignore_case: bool) -> Result<Self, regex::Error> {
        let build = RegexBuilder::new(expression).case_insensitive(ignore_case).size_limit(1 << 20).build();
        build.map(|regex| Self { text: text.to_owned(), regex })
    }

    /// Returns the pattern as it was typed.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        self.regex.is_match(&normalized(text))
    }

    /// Returns where the pattern occurs in `text`, which must be normalized.
    pub(crate) fn ranges<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        self.regex.find_iter(text).map(|found| found.range()).filter(|range| !range.is_empty())
    }
}

impl FromStr for Pattern {
    type Err = regex::Error;

    fn from_str(text: &str) -> Result<Self, regex::Error> {
        Self::build(text, &normalized(text), false)
    }
}

/// Returns whether an expression has a capital letter, apart from classes such as `\S`.
fn has_capital(expression: &str) -> bool {
    let mut chars = expression.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c.is_uppercase() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_normalization::UnicodeNormalization as _;

    #[test]
    fn case_counts_only_where_it_was_typed() {
        assert!(Pattern::new("tow").unwrap().matches("TOW truck"));
        assert!(!Pattern::new("Tow").unwrap().matches("tow truck"));
        assert!(Pattern::new("t.w|car").unwrap().matches("my car"));
    }

    #[test]
    fn a_letter_is_found_however_it_is_written() {
        assert_eq!(normalized("ｶﾞｷﾞﾊﾟ ｱﾞ"), "ガギパ ｱﾞ");
        for text in ["한국어", "Grün aus Zürich", "điện thoại", "Ελλάδα"] {
            let (composed, apart): (String, String) = (text.nfc().collect(), text.nfd().collect());
            for (typed, said) in [(&composed, &apart), (&apart, &composed), (&apart, &apart)] {
                assert!(Pattern::new(typed).unwrap().matches(said), "{text}");
                assert!(Pattern::new(&typed.to_lowercase()).unwrap().matches(&said.to_uppercase()), "{text}");
            }
        }
    }

    #[test]
    fn classes_ask_for_no_capital() {
        assert!(Pattern::new("\\S+ tow").unwrap().matches("a TOW"));
        assert!(!Pattern::new("\\S+ Tow").unwrap().matches("a TOW"));
    }

    #[test]
    fn an_expression_of_the_command_line_means_what_it_says() {
        assert!(!"\\S+ tow".parse::<Pattern>().unwrap().matches("a TOW"));
        assert!("(?i)tow".parse::<Pattern>().unwrap().matches("a TOW"));
        assert!("a(b".parse::<Pattern>().is_err());
    }

    #[test]
    fn what_is_no_expression_is_taken_by_the_letter() {
        assert!(Pattern::new("a(b").unwrap().matches("xa(bx"));
        assert!(Pattern::new("").is_none());
    }
}
