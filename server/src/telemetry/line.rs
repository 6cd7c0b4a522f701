//! Bounds the length of log lines, because strangers choose parts of them.

use serde_json::{Map, Value};

use callscope_common::text::one_line;

/// Maximum length of a line with its line feed, in bytes.
const MAX_LINE_BYTES: usize = 2 << 10;
/// Marks the end of a text that was cut.
const CUT_MARK: &str = "… [cut]";
/// Maximum length of a logged path, in characters.
const MAX_PATH_CHARS: usize = 200;

/// Returns the line without control characters, and cut if it is too long. JSON stays JSON. The result ends with a line
/// feed.
pub(super) fn bounded(line: &[u8], is_json: bool) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let text = one_line(text.trim_end_matches('\n'));
    let mut line = match text.len() < MAX_LINE_BYTES {
        true => text.into_owned(),
        false if is_json => cut_json(&text),
        false => cut(&text, MAX_LINE_BYTES - 1),
    };
    line.push('\n');
    line.into_bytes()
}

/// Cuts `text` to at most `max_bytes` and marks the cut.
fn cut(text: &str, max_bytes: usize) -> String {
    let mut end = max_bytes.saturating_sub(CUT_MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{CUT_MARK}", &text[..end])
}

/// Cuts the longest fields of a JSON object until it fits.
fn cut_json(text: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(text) else { return r#"{"cut":true}"#.into() };
    fields.insert("cut".into(), true.into());
    let size = |value: &Value| value.to_string().len();
    loop {
        let line = Value::Object(fields);
        let json = line.to_string();
        if json.len() < MAX_LINE_BYTES {
            return json;
        }
        let Value::Object(map) = line else { return r#"{"cut":true}"#.into() };
        fields = map;
        let longest: Option<(String, usize)> =
            fields.iter().map(|(key, value)| (key.clone(), size(value))).max_by_key(|(_, size)| *size);
        shorten(&mut fields, longest, json.len() - MAX_LINE_BYTES + 1);
    }
}

/// Shortens one field by about `excess` bytes, or removes it.
fn shorten(fields: &mut Map<String, Value>, field: Option<(String, usize)>, excess: usize) {
    let Some((key, size)) = field else { return };
    match fields.get_mut(&key) {
        Some(Value::String(text)) if text.len() > 64 => {
            // `excess` counts escaped bytes, of which a character has up to six, so the text is cut by the same share.
            let keep = text.len() * size.saturating_sub(excess + CUT_MARK.len()) / size.max(1);
            // Each cut takes away at least an eighth, so that the loop ends soon.
            *text = cut(text, keep.min(text.len() * 7 / 8).max(32));
        }
        _ => {
            fields.remove(&key);
        }
    }
}

/// Cuts a path to the length that is logged.
pub fn shorten_path(path: &str) -> std::borrow::Cow<'_, str> {
    match path.char_indices().nth(MAX_PATH_CHARS) {
        Some((end, _)) => format!("{}…", &path[..end]).into(),
        None => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_and_has_no_control_characters() {
        for text in ["x".repeat(100_000), "ü".repeat(50_000), "👩‍👩‍👧".repeat(9_000), "\u{1b}[31m".repeat(9_000)]
        {
            let line = String::from_utf8(bounded(format!("{text}\n").as_bytes(), false)).unwrap();
            assert!(line.len() <= MAX_LINE_BYTES && line.ends_with("… [cut]\n"), "{} bytes", line.len());
            assert!(!line.contains('\u{1b}'));
        }
        assert_eq!(bounded(b"short\n", false), b"short\n");
        assert_eq!(bounded(b"two\nlines\n", false), b"two lines\n");
        assert_eq!(bounded(b"\xff\n", false), "\u{fffd}\n".as_bytes());
    }

    #[test]
    fn a_cut_line_of_json_stays_json() {
        for text in ["x".repeat(100_000), "\u{1}\"\\ü".repeat(5_000), "ü".repeat(2_000)] {
            let fields = serde_json::json!({"level": "INFO", "path": text, "error": text, "list": [1, 2]});
            let line = bounded(format!("{fields}\n").as_bytes(), true);
            assert!(line.len() <= MAX_LINE_BYTES, "{} bytes", line.len());
            let read: Value = serde_json::from_slice(&line).unwrap();
            assert_eq!((&read["level"], &read["cut"]), (&Value::from("INFO"), &Value::from(true)));
        }
        let many: Map<String, Value> = (0..500).map(|n| (format!("key{n}"), Value::from(n))).collect();
        let line = bounded(Value::Object(many).to_string().as_bytes(), true);
        assert!(line.len() <= MAX_LINE_BYTES && serde_json::from_slice::<Value>(&line).is_ok());
    }

    #[test]
    fn a_path_is_cut_between_characters() {
        assert_eq!(shorten_path("/short"), "/short");
        assert_eq!(shorten_path(&"ü".repeat(300)).chars().count(), MAX_PATH_CHARS + 1);
    }
}
