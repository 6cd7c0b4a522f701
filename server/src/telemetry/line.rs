//! Bounds the length of a log line, whatever strangers put into it.

use serde_json::{Map, Value};

use callscope_common::text::one_line;

/// Maximum length of a line with its line feed, in bytes.
const MAX_LINE: usize = 2 << 10;
/// The end of a text that was cut.
const MARK: &str = "… [cut]";
/// Maximum length of a path that is logged, in characters.
const MAX_PATH: usize = 200;

/// Returns the line without anything that a terminal would act on, cut if it is too long; JSON stays JSON. It ends with
/// a line feed.
pub(super) fn bounded(line: &[u8], is_json: bool) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let text = one_line(text.trim_end_matches('\n'));
    let mut line = match text.len() < MAX_LINE {
        true => text.into_owned(),
        false if is_json => shortened(&text),
        false => cut(&text, MAX_LINE - 1),
    };
    line.push('\n');
    line.into_bytes()
}

/// Cuts `text` to at most `most` bytes and marks the cut.
fn cut(text: &str, most: usize) -> String {
    let mut end = most.saturating_sub(MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", &text[..end])
}

/// Cuts the longest texts of a JSON object until it fits.
fn shortened(text: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(text) else { return r#"{"cut":true}"#.into() };
    fields.insert("cut".into(), true.into());
    let size = |value: &Value| value.to_string().len();
    loop {
        let line = Value::Object(fields);
        let written = line.to_string();
        if written.len() < MAX_LINE {
            return written;
        }
        let Value::Object(map) = line else { return r#"{"cut":true}"#.into() };
        fields = map;
        let longest: Option<(String, usize)> =
            fields.iter().map(|(key, value)| (key.clone(), size(value))).max_by_key(|(_, size)| *size);
        shorten(&mut fields, longest, written.len() - MAX_LINE + 1);
    }
}

/// Shortens one field by about `excess` bytes, or removes it.
fn shorten(fields: &mut Map<String, Value>, field: Option<(String, usize)>, excess: usize) {
    let Some((key, size)) = field else { return };
    match fields.get_mut(&key) {
        Some(Value::String(text)) if text.len() > 64 => {
            // An escaped character takes up to six bytes, so the share that has to go is computed, not the bytes.
            let keep = text.len() * size.saturating_sub(excess + MARK.len()) / size.max(1);
            *text = cut(text, keep.min(text.len() * 7 / 8).max(32));
        }
        _ => {
            fields.remove(&key);
        }
    }
}

/// Returns a path as it is logged.
pub fn shorten_path(path: &str) -> std::borrow::Cow<'_, str> {
    match path.char_indices().nth(MAX_PATH) {
        Some((end, _)) => format!("{}…", &path[..end]).into(),
        None => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded_and_stays_text() {
        for text in ["x".repeat(100_000), "ü".repeat(50_000), "👩‍👩‍👧".repeat(9_000), "\u{1b}[31m".repeat(9_000)]
        {
            let line = String::from_utf8(bounded(format!("{text}\n").as_bytes(), false)).unwrap();
            assert!(line.len() <= MAX_LINE && line.ends_with("… [cut]\n"), "{} bytes", line.len());
            assert!(!line.contains('\u{1b}'));
        }
        assert_eq!(bounded(b"short\n", false), b"short\n");
        assert_eq!(bounded(b"two\nlines\n", false), b"two lines\n");
        assert_eq!(bounded(b"\xff\n", false), "\u{fffd}\n".as_bytes());
    }

    #[test]
    fn a_line_of_json_stays_json() {
        for text in ["x".repeat(100_000), "\u{1}\"\\ü".repeat(5_000), "ü".repeat(2_000)] {
            let fields = serde_json::json!({"level": "INFO", "path": text, "error": text, "list": [1, 2]});
            let line = bounded(format!("{fields}\n").as_bytes(), true);
            assert!(line.len() <= MAX_LINE, "{} bytes", line.len());
            let read: Value = serde_json::from_slice(&line).unwrap();
            assert_eq!((&read["level"], &read["cut"]), (&Value::from("INFO"), &Value::from(true)));
        }
        let many: Map<String, Value> = (0..500).map(|n| (format!("key{n}"), Value::from(n))).collect();
        let line = bounded(Value::Object(many).to_string().as_bytes(), true);
        assert!(line.len() <= MAX_LINE && serde_json::from_slice::<Value>(&line).is_ok());
    }

    #[test]
    fn a_path_is_cut_at_a_character() {
        assert_eq!(shorten_path("/short"), "/short");
        assert_eq!(shorten_path(&"ü".repeat(300)).chars().count(), MAX_PATH + 1);
    }
}
