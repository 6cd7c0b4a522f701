//! Which fields the vendor's webhooks have, and of which kind: `model.txt`, read.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    Text,
    /// A number without a fraction.
    Whole,
    Number,
    /// True or false.
    Bool,
    Any,
    /// One of these texts, as far as is known.
    OneOf(Vec<&'static str>),
    /// An object with these fields.
    Object(&'static str),
    List(Box<Shape>),
    /// An object with any keys.
    Map(Box<Shape>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// What it holds.
    pub(crate) shape: Shape,
    /// Whether it is always there.
    pub(crate) required: bool,
}

type Objects = BTreeMap<&'static str, BTreeMap<&'static str, Field>>;

static OBJECTS: LazyLock<Objects> = LazyLock::new(|| read(include_str!("model.txt")));

/// The fields of the object called `name`; `None` where nothing is known of it.
pub(crate) fn fields(name: &str) -> Option<&'static BTreeMap<&'static str, Field>> {
    OBJECTS.get(name)
}

fn read(text: &'static str) -> Objects {
    let mut objects = Objects::new();
    let mut object = "";
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            object = name;
            objects.insert(name, BTreeMap::new());
        } else if let (Some((name, shape)), Some(fields)) = (line.split_once(' '), objects.get_mut(object)) {
            let required = shape.ends_with('!');
            fields.insert(name, Field { shape: shape_of(shape.trim_end_matches('!')), required });
        }
    }
    objects
}

fn shape_of(text: &'static str) -> Shape {
    let inside = |open: char, close: char| text.strip_prefix(open).and_then(|text| text.strip_suffix(close));
    if let Some(name) = inside('{', '}') {
        return Shape::Object(name);
    }
    if let Some(item) = inside('[', ']') {
        return Shape::List(Box::new(shape_of(item)));
    }
    if let Some(item) = inside('<', '>') {
        return Shape::Map(Box::new(shape_of(item)));
    }
    match text {
        "text" => Shape::Text,
        "whole" => Shape::Whole,
        "number" => Shape::Number,
        "bool" => Shape::Bool,
        "any" => Shape::Any,
        values => Shape::OneOf(values.split('|').collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_that_is_named_is_there() {
        fn check(shape: &Shape, of: &str) {
            match shape {
                Shape::Object(name) => assert!(fields(name).is_some(), "{of} names {name}"),
                Shape::List(item) | Shape::Map(item) => check(item, of),
                Shape::OneOf(values) => assert!(values.len() > 1, "{of}: {values:?} is no kind"),
                _ => {}
            }
        }
        assert!(OBJECTS.len() > 15);
        for (name, fields) in OBJECTS.iter() {
            assert!(!fields.is_empty(), "{name}");
            for (field, Field { shape, .. }) in fields {
                check(shape, &format!("{name}.{field}"));
            }
        }
    }
}
