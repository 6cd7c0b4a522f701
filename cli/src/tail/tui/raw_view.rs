//! A message of the server as it came, for scrolling through.

use callscope_common::json_style::{self, INDENTED};

use crate::render::json_for_terminal;

/// The lines of the message, wrapped at the width of the screen.
#[derive(Debug)]
pub(crate) struct RawView {
    lines: Vec<String>,
    rows: Vec<String>,
    /// The first row on the screen.
    pub(crate) top: usize,
}

impl RawView {
    /// Reads a JSON text.
    pub(crate) fn new(text: &str, width: usize) -> Self {
        let indented = json_style::write(&json_for_terminal(text), INDENTED);
        let lines = indented.lines().map(str::to_owned).collect();
        let mut raw = Self { lines, rows: Vec::new(), top: 0 };
        raw.wrap(width);
        raw
    }

    pub(crate) fn rows(&self) -> &[String] {
        &self.rows
    }

    /// Wraps the lines at `width`.
    pub(crate) fn wrap(&mut self, width: usize) {
        let options = textwrap::Options::new(width.max(2))
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit);
        // The text is reduced in the same way as in the transcript.
        let wrapped = |line: &String| {
            let indent = " ".repeat((line.len() - line.trim_start().len()).min(width / 4));
            let options = options.clone().initial_indent(&indent).subsequent_indent(&indent);
            let drawn = crate::term::drawable::drawable(line.trim_start()).into_owned();
            // Unicode's line breaking rules do not find the words of some scripts.
            let options = match drawn.chars().all(crate::term::backend::has_certain_width) {
                true => options,
                false => options.word_separator(textwrap::WordSeparator::AsciiSpace),
            };
            textwrap::wrap(&drawn, options).into_iter().map(std::borrow::Cow::into_owned).collect::<Vec<_>>()
        };
        self.rows = self.lines.iter().flat_map(wrapped).collect();
        self.top = self.top.min(self.rows.len().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::RawView;

    fn lines(json: &str) -> Vec<String> {
        RawView::new(json, 80).lines
    }

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
