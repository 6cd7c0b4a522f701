//! Paths to values: `data.transcript[*].message`.

use std::fmt;
use std::str::FromStr;

/// A step from a value to a value inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// To the member with this key.
    Key(String),
    /// To the item with this index.
    Item(usize),
    /// The name of a collected datum. It is not a step of the document, so paths skip it.
    Label(String),
}

impl Step {
    /// Returns the key or the label.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Key(name) | Self::Label(name) => Some(name),
            Self::Item(_) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Key(String),
    AnyKey,
    Item(usize),
    AnyItem,
}

/// A path, which may match several values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    text: String,
    patterns: Vec<Pattern>,
}

impl Path {
    /// Whether the path matches the value that `steps` lead to.
    pub(crate) fn leads_to(&self, steps: &[Step]) -> bool {
        let steps = || steps.iter().filter(|step| !matches!(step, Step::Label(_)));
        self.patterns.len() == steps().count()
            && self.patterns.iter().zip(steps()).all(|(pattern, step)| match (pattern, step) {
                (Pattern::Key(wanted), Step::Key(key)) => wanted == key,
                (Pattern::Item(wanted), Step::Item(item)) => wanted == item,
                (Pattern::AnyKey, Step::Key(_)) | (Pattern::AnyItem, Step::Item(_)) => true,
                _ => false,
            })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("{why}; a path is keys between dots, such as data.transcript[*].message"));
        let mut patterns = Vec::new();
        for part in text.strip_prefix("$.").unwrap_or(text).split('.') {
            let (key, mut items) = part.split_at(part.find('[').unwrap_or(part.len()));
            match key {
                "*" => patterns.push(Pattern::AnyKey),
                "" if !items.is_empty() && patterns.is_empty() => {}
                "" => return wrong("a key is empty"),
                key => patterns.push(Pattern::Key(key.to_owned())),
            }
            while !items.is_empty() {
                let Some((item, rest)) = items.strip_prefix('[').and_then(|items| items.split_once(']')) else {
                    return wrong("a bracket is not closed");
                };
                match (item, item.parse()) {
                    ("*" | "", _) => patterns.push(Pattern::AnyItem),
                    (_, Ok(place)) => patterns.push(Pattern::Item(place)),
                    _ => return wrong("brackets hold a number or *"),
                }
                items = rest;
            }
        }
        Ok(Self { text: text.to_owned(), patterns })
    }
}
