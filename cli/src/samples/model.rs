//! The fields of ElevenLabs' webhooks and their types, parsed from `model.txt`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The type of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    Text,
    Integer,
    Number,
    Bool,
    Any,
    /// One of these texts. ElevenLabs may add others.
    OneOf(Vec<&'static str>),
    /// The name of an object of the model.
    Object(&'static str),
    List(Box<Shape>),
    /// An object with any keys.
    Map(Box<Shape>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) shape: Shape,
    /// Whether ElevenLabs always sends the field.
    pub(crate) required: bool,
}

type Objects = BTreeMap<&'static str, BTreeMap<&'static str, Field>>;

static OBJECTS: LazyLock<Objects> = LazyLock::new(|| parse(include_str!("model.txt")));

/// Returns the fields of the object called `name`; `None` if the model does not describe it.
pub(crate) fn fields(name: &str) -> Option<&'static BTreeMap<&'static str, Field>> {
    OBJECTS.get(name)
}

fn parse(text: &'static str) -> Objects {
    let mut objects = Objects::new();
    let mut object = "";
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            object = name;
            objects.insert(name, BTreeMap::new());
        } else if let (Some((name, shape)), Some(fields)) = (line.split_once(' '), objects.get_mut(object)) {
            let required = shape.ends_with('!');
            fields.insert(name, Field { shape: parse_shape(shape.trim_end_matches('!')), required });
        }
    }
    objects
}

fn parse_shape(text: &'static str) -> Shape {
    let inside = |open: char, close: char| text.strip_prefix(open).and_then(|text| text.strip_suffix(close));
    if let Some(name) = inside('{', '}') {
        return Shape::Object(name);
    }
    if let Some(item) = inside('[', ']') {
        return Shape::List(Box::new(parse_shape(item)));
    }
    if let Some(item) = inside('<', '>') {
        return Shape::Map(Box::new(parse_shape(item)));
    }
    match text {
        "text" => Shape::Text,
        "whole" => Shape::Integer,
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
        fn check(shape: &Shape, owner: &str) {
            match shape {
                Shape::Object(name) => assert!(fields(name).is_some(), "{owner} names {name}"),
                Shape::List(item) | Shape::Map(item) => check(item, owner),
                Shape::OneOf(values) => assert!(values.len() > 1, "{owner}: {values:?} is not a shape"),
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
