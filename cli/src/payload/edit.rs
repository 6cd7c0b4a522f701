//! `--set` and `--remove`: change values in a JSON text and leave every other byte as it is.

mod members;

use std::ops::Range;

use members::Members;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    /// The edit as the user wrote it, for messages.
    pub(crate) spelled: String,
    path: Vec<PathStep>,
    /// The new JSON value; `None` removes the old one.
    value: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PathStep {
    Key(String),
    Index(usize),
    /// Every item of an array.
    All,
    /// A new item after the last one.
    Append,
}

impl Edit {
    /// Parses `PATH=JSON`. A value that is not JSON is a string, unless it begins like an object, an array or a string.
    pub(crate) fn set(text: &str) -> Result<Self, String> {
        let (path, value) = text.split_once('=').ok_or("it takes PATH=JSON, such as data.metadata.cost=7")?;
        let value = match serde_json::from_str::<serde::de::IgnoredAny>(value) {
            Ok(_) => value.trim().to_owned(),
            Err(_) if !value.trim_start().starts_with(['{', '[', '"']) => serde_json::Value::from(value).to_string(),
            Err(error) => return Err(format!("the value after = is not JSON: {error}")),
        };
        Ok(Self { spelled: text.to_owned(), path: parse_path(path)?, value: Some(value) })
    }

    /// Parses the `PATH` of a value to remove.
    pub(crate) fn remove(text: &str) -> Result<Self, String> {
        let path = parse_path(text)?;
        if path.contains(&PathStep::Append) {
            return Err("[] stands for a new item, so there is nothing to remove".into());
        }
        Ok(Self { spelled: text.to_owned(), path, value: None })
    }

    /// Returns `json` with the change; `None` if the path leads nowhere.
    pub(crate) fn apply(&self, json: &str) -> Option<String> {
        let mut splices = Vec::new();
        self.collect_splices(json, 0..json.len(), &self.path, &mut splices);
        if splices.is_empty() {
            return None;
        }
        splices.sort_by_key(|(range, _)| range.start);
        let mut changed = String::with_capacity(json.len() + 64);
        let mut at = 0;
        for (range, text) in splices {
            changed.push_str(json.get(at..range.start)?);
            changed.push_str(&text);
            at = range.end;
        }
        changed.push_str(json.get(at..)?);
        Some(changed)
    }

    /// Collects the ranges to replace and their new text, for the value at `range`.
    fn collect_splices(
        &self,
        json: &str,
        range: Range<usize>,
        path: &[PathStep],
        splices: &mut Vec<(Range<usize>, String)>,
    ) {
        let Some((place, rest)) = path.split_first() else { return };
        let Some(members) = Members::of(json, &range) else { return };
        let hits: Vec<usize> = match place {
            PathStep::Key(key) if !members.is_array => {
                members.all.iter().rposition(|(name, _)| name.as_ref() == Some(key)).into_iter().collect()
            }
            PathStep::Index(index) if members.is_array => {
                Some(*index).filter(|at| *at < members.all.len()).into_iter().collect()
            }
            PathStep::All if members.is_array => (0..members.all.len()).collect(),
            PathStep::Append if members.is_array => Vec::new(),
            _ => return,
        };
        for &hit in &hits {
            let place = members.all[hit].1.clone();
            match (&self.value, rest.is_empty()) {
                (Some(value), true) => splices.push((place, value.clone())),
                (None, true) => splices.push((members.with_comma(json, hit, hits.len() == 1), String::new())),
                (_, false) => self.collect_splices(json, place, rest, splices),
            }
        }
        if let (true, Some(value)) = (hits.is_empty(), &self.value)
            && let Some(new) = new_member(place, rest, value, members.is_array, members.all.len())
        {
            let comma = if members.all.is_empty() { "" } else { ", " };
            splices.push((members.end()..members.end(), format!("{comma}{new}")));
        }
    }
}

/// Returns the text of a member that does not exist yet. It can be a key, or the item after the last one of an array.
fn new_member(place: &PathStep, rest: &[PathStep], value: &str, is_array: bool, length: usize) -> Option<String> {
    let inner = match rest.split_first() {
        None => value.to_owned(),
        Some((next, rest)) => {
            let is_array = !matches!(next, PathStep::Key(_));
            let inner = new_member(next, rest, value, is_array, 0)?;
            if is_array { format!("[{inner}]") } else { format!("{{{inner}}}") }
        }
    };
    match place {
        PathStep::Key(key) if !is_array => Some(format!("{}: {inner}", serde_json::Value::from(key.as_str()))),
        PathStep::Append if is_array => Some(inner),
        PathStep::Index(index) if is_array && *index == length => Some(inner),
        _ => None,
    }
}

/// Parses a path such as `data.transcript[0].message`. `[*]` stands for every item, `[]` for a new one, and `"a.b"` for
/// a key that contains a dot.
fn parse_path(text: &str) -> Result<Vec<PathStep>, String> {
    let wrong = || format!("{text:?} is not a path; a path looks like data.transcript[0].message");
    let mut path = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (index, after) = inside.split_once(']').ok_or_else(wrong)?;
            path.push(match index {
                "*" => PathStep::All,
                "" => PathStep::Append,
                index => PathStep::Index(index.parse().map_err(|_| wrong())?),
            });
            rest = after;
        } else {
            let key = if path.is_empty() { rest } else { rest.strip_prefix('.').ok_or_else(wrong)? };
            let length = match key.strip_prefix('"') {
                Some(quoted) => quoted.find('"').ok_or_else(wrong)? + 2,
                None => key.find(['.', '[']).unwrap_or(key.len()),
            };
            let (name, after) = key.split_at_checked(length).ok_or_else(wrong)?;
            if name.is_empty() {
                return Err(wrong());
            }
            path.push(PathStep::Key(name.trim_matches('"').to_owned()));
            rest = after;
        }
    }
    if path.is_empty() { Err(wrong()) } else { Ok(path) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const BODY: &str = r#"{ "type":"x", "data" : {"cost": 1e400,"list":[ 1, {"m":"a,]}\""}, 3 ],"none":{}} }"#;

    fn set(edit: &str, expected: &str) {
        assert_eq!(Edit::set(edit).unwrap().apply(BODY).as_deref(), Some(expected), "{edit}");
    }

    fn remove(path: &str, expected: &str) {
        assert_eq!(Edit::remove(path).unwrap().apply(BODY).as_deref(), Some(expected), "{path}");
    }

    #[test]
    fn a_value_is_exchanged_and_the_rest_keeps_its_bytes() {
        set("data.cost=7", &BODY.replace("1e400", "7"));
        set("data.list[1].m=null", &BODY.replace(r#""a,]}\"""#, "null"));
        set("type=call me", &BODY.replace(r#""x""#, r#""call me""#));
        set("data.list[*]=0", &BODY.replace(r#"[ 1, {"m":"a,]}\""}, 3 ]"#, "[ 0, 0, 0 ]"));
    }

    #[test]
    fn what_is_not_there_is_added() {
        set("data.none.a.b=[1]", &BODY.replace("{}", r#"{"a": {"b": [1]}}"#));
        set("data.list[]=4", &BODY.replace("3 ]", "3, 4 ]"));
        set("data.list[3].x=4", &BODY.replace("3 ]", r#"3, {"x": 4} ]"#));
        set(r#"data.none."a.b"=true"#, &BODY.replace("{}", r#"{"a.b": true}"#));
        assert_eq!(Edit::set("data.list[9]=1").unwrap().apply(BODY), None);
        assert_eq!(Edit::set("type.x=1").unwrap().apply(BODY), None);
    }

    #[test]
    fn what_is_removed_takes_its_comma_along() {
        remove("type", r#"{ "data" : {"cost": 1e400,"list":[ 1, {"m":"a,]}\""}, 3 ],"none":{}} }"#);
        remove("data.none", &BODY.replace(r#","none":{}"#, ""));
        remove("data.list[2]", &BODY.replace(", 3", ""));
        remove("data.list[1].m", &BODY.replace(r#""m":"a,]}\"""#, ""));
        let emptied = Edit::remove("data.list[*]").unwrap().apply(BODY).unwrap();
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(&emptied).is_ok(), "{emptied}");
        assert_eq!(Edit::remove("data.nothing").unwrap().apply(BODY), None);
    }

    #[test]
    fn nonsense_is_refused_and_says_why() {
        for wrong in ["a", "=1", "a[=1", "a[x]=1", "a..b=1", "a.=1"] {
            assert!(Edit::set(wrong).is_err(), "{wrong}");
        }
        assert!(Edit::set("a={\"b\":").unwrap_err().contains("not JSON"));
        assert!(Edit::remove("a[]").is_err());
    }
}
