//! A message as it came, to be looked through.

use super::json;

/// Its lines, broken at the screen's width.
#[derive(Debug)]
pub struct RawView {
    lines: Vec<String>,
    rows: Vec<String>,
    /// The first row on the screen.
    pub top: usize,
}

impl RawView {
    /// Of a JSON text.
    pub fn new(text: &str, width: usize) -> Self {
        let mut raw = Self { lines: json::lines(text), rows: Vec::new(), top: 0 };
        raw.wrap(width);
        raw
    }

    /// Its rows.
    pub fn rows(&self) -> &[String] {
        &self.rows
    }

    /// Breaks the lines anew.
    pub fn wrap(&mut self, width: usize) {
        let options = textwrap::Options::new(width.max(2))
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit);
        // Text reduced to what is drawn equally wide everywhere, as in the transcript.
        let wrapped = |line: &String| {
            let indent = " ".repeat((line.len() - line.trim_start().len()).min(width / 4));
            let options = options.clone().initial_indent(&indent).subsequent_indent(&indent);
            let drawn = crate::term::drawable::drawable(line.trim_start()).into_owned();
            // The rules of Unicode know no words of some scripts.
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
