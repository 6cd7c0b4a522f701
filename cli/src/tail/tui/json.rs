//! Splits a JSON text into indented lines.

use crate::render::json_for_terminal;

/// Returns the lines of a JSON text, indented by depth. Only the blanks between values change, and characters that a
/// terminal might act on are escaped.
pub(crate) fn lines(json: &str) -> Vec<String> {
    let json = json_for_terminal(json);
    let mut lines = vec![String::new()];
    let mut depth = 0;
    let (mut quoted, mut escaped) = (false, false);
    let mut chars = json.trim().chars().peekable();
    let put = |lines: &mut Vec<String>, c: char| {
        if let Some(line) = lines.last_mut() {
            line.push(c);
        }
    };
    while let Some(c) = chars.next() {
        if quoted {
            put(&mut lines, c);
            (quoted, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        match c {
            '"' => {
                quoted = true;
                put(&mut lines, c);
            }
            '{' | '[' => {
                put(&mut lines, c);
                while chars.next_if(|c| c.is_whitespace()).is_some() {}
                if let Some(end) = chars.next_if(|c| matches!(c, '}' | ']')) {
                    put(&mut lines, end);
                } else {
                    depth += 1;
                    lines.push("  ".repeat(depth));
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                lines.push("  ".repeat(depth));
                put(&mut lines, c);
            }
            ',' => {
                put(&mut lines, c);
                lines.push("  ".repeat(depth));
            }
            ':' => {
                put(&mut lines, c);
                put(&mut lines, ' ');
            }
            c if c.is_whitespace() => {}
            c => put(&mut lines, c),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_document_with_a_line_a_field() {
        let json = r#"{"a":"x\"{,}","b":[1, 2e400],"c":{},"d":[ ]}"#;
        assert_eq!(
            lines(json),
            [
                r#"{"#,
                r#"  "a": "x\"{,}","#,
                r#"  "b": ["#,
                "    1,",
                "    2e400",
                "  ],",
                r#"  "c": {},"#,
                r#"  "d": []"#,
                "}"
            ]
        );
    }

    #[test]
    fn nothing_raw_is_left() {
        assert_eq!(lines("{\"a\":\"\u{202e}\"}")[1], "  \"a\": \"\\u202e\"");
    }
}
