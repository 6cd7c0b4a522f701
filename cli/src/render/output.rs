//! Writes data to stdout as tables, JSON, NDJSON or plain text, sanitised.

use std::io::{self, IsTerminal as _, Write};

use callscope_common::{Timestamp, text};
use serde::Serialize;
use serde_json::value::RawValue;
use unicode_width::UnicodeWidthStr as _;

use crate::exit::{Failure, Result};
use crate::render::safe::{Tint, cut};
use crate::render::{ColorChoice, Format, Safe};

/// Returns whether data on stdout is coloured. `--color auto` depends on NO_COLOR, CLICOLOR_FORCE and the terminal.
pub(crate) fn wants_color(choice: ColorChoice) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => auto_color(|name| std::env::var(name).ok(), io::stdout().is_terminal()),
    }
}

fn auto_color(variable: impl Fn(&str) -> Option<String>, is_terminal: bool) -> bool {
    let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
    if is_set("NO_COLOR") {
        return false;
    }
    let is_dumb = variable("TERM").is_some_and(|term| term == "dumb");
    let is_off = variable("CLICOLOR").is_some_and(|value| value == "0");
    variable("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0")
        || (is_terminal && !is_dumb && !is_off)
}

/// Writes data to stdout.
pub(crate) struct Output {
    pub(crate) format: Format,
    /// Columns of the terminal on stdout; `None` if stdout is no terminal or its width is unknown.
    width: Option<usize>,
    color: bool,
    writer: Box<dyn Write + Send>,
}

impl Output {
    pub(crate) fn stdout(format: Format, color: bool) -> Self {
        // A terminal that reports 0 columns does not know its width, so nothing is cut.
        let width = || crossterm::terminal::size().map_or(80, |(width, _)| usize::from(width));
        let width = io::stdout().is_terminal().then(width).filter(|width| *width > 0);
        Self { format, width, color, writer: Box::new(io::BufWriter::new(io::stdout())) }
    }

    pub(crate) fn width(&self) -> Option<usize> {
        self.width
    }

    /// Returns whether the format is JSON or NDJSON.
    pub(crate) fn is_json(&self) -> bool {
        matches!(self.format, Format::Json | Format::Ndjson)
    }

    /// Writes a list: `rows` under `header` for people, or `items` as JSON under `key`.
    pub(crate) fn list(
        &mut self,
        key: &str,
        items: &[impl AsRef<RawValue>],
        header: &[&str],
        rows: &[Vec<String>],
    ) -> Result<()> {
        self.list_to_fit(key, items, header, rows, &[])
    }

    /// Writes a list like [`Output::list`]. If the terminal is too narrow, the columns `hidden_first` are left out in
    /// their order until the others fit.
    pub(crate) fn list_to_fit(
        &mut self,
        key: &str,
        items: &[impl AsRef<RawValue>],
        header: &[&str],
        rows: &[Vec<String>],
        hidden_first: &[usize],
    ) -> Result<()> {
        match self.format {
            Format::Table => {
                let text = table(header, rows, hidden_first, self.width);
                let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
                self.line(first, Tint::Header)?;
                self.write(&Safe::lines(rest))
            }
            Format::Text => self.write(&rows.iter().map(|row| Safe::tabbed(row)).collect()),
            Format::Ndjson => {
                items.iter().try_for_each(|item| self.put(&Safe::json_line(item.as_ref().get()))).and(self.flush())
            }
            Format::Json => {
                self.put(&Safe::json(&format!("{{\"{key}\":[")))?;
                for (place, item) in items.iter().enumerate() {
                    self.put(&Safe::literal(if place > 0 { "," } else { "" }))?;
                    self.put(&Safe::json(item.as_ref().get()))?;
                }
                self.write(&Safe::literal("]}\n"))
            }
        }
    }

    /// Writes one record: `fields` for people, or `item` as JSON.
    pub(crate) fn record(&mut self, item: &impl Serialize, fields: &[(&str, String)]) -> Result<()> {
        if self.is_json() {
            return self.write(&Safe::json_line(&serde_json::to_string(item)?));
        }
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let fields = fields.iter().filter(|(_, value)| !value.is_empty());
        self.write(&fields.map(|(name, value)| Safe::line(&format!("{name:width$}  {value}")).with_newline()).collect())
    }

    /// Writes one line in the colour of `tint`, cut at the edge of the terminal.
    pub(crate) fn line(&mut self, line: &str, tint: Tint) -> Result<()> {
        let line = Safe::line(line.trim_end_matches('\n')).cut(self.width);
        self.write(&self.tinted(line, tint).with_newline())
    }

    /// Writes `head` in a colour, followed by `text`, which is wrapped at the edge of the terminal. Further lines are
    /// indented by the width of `head`.
    pub(crate) fn write_tinted_wrapped(&mut self, head: &str, text: &str, tint: Tint) -> Result<()> {
        let text = Safe::line(text);
        let room = self.width.map_or(usize::MAX, |width| width.saturating_sub(head.width()).max(20));
        let lines = if room == usize::MAX { vec![text.as_str().into()] } else { textwrap::wrap(text.as_str(), room) };
        let indent = " ".repeat(head.width());
        let mut block = self.tinted(Safe::line(head), tint);
        for (number, line) in lines.iter().enumerate() {
            let line = if number > 0 { format!("{indent}{line}") } else { line.to_string() };
            block = block.append(&Safe::line(&line).with_newline());
        }
        self.write(&block)
    }

    /// Writes `text` and flushes stdout.
    pub(crate) fn write(&mut self, text: &Safe) -> Result<()> {
        self.put(text).and_then(|()| self.flush())
    }

    /// Writes `bytes` unchanged if stdout is a file or a pipe, and sanitised if it is a terminal.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if io::stdout().is_terminal() {
            return self.write(&Safe::lines(&String::from_utf8_lossy(bytes)).with_newline());
        }
        self.writer.write_all(bytes).map_err(|error| Failure::output(&error)).and_then(|()| self.flush())
    }

    /// Adds the colour of `tint` if colours are on.
    pub(crate) fn tinted(&self, text: Safe, tint: Tint) -> Safe {
        if self.color { text.tinted(tint) } else { text }
    }

    fn put(&mut self, text: &Safe) -> Result<()> {
        self.writer.write_all(text.as_str().as_bytes()).map_err(|error| Failure::output(&error))
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.flush().map_err(|error| Failure::output(&error))
    }
}

/// Aligns columns. To fit into `width`, columns of `hidden_first` are left out first, and lines that are still too
/// long are cut.
fn table(header: &[&str], rows: &[Vec<String>], hidden_first: &[usize], width: Option<usize>) -> String {
    let header: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(&header)
        .chain(rows)
        .map(|row| row.iter().map(|cell| text::one_line(cell).into_owned()).collect())
        .collect();
    let widths: Vec<usize> = (0..header.len())
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0))
        .collect();
    let mut shown: Vec<usize> = (0..header.len()).collect();
    // Two blanks separate the columns.
    let table_width = |shown: &[usize]| shown.iter().map(|&column| widths[column] + 2).sum::<usize>().saturating_sub(2);
    for column in hidden_first {
        if width.is_some_and(|width| table_width(&shown) > width) {
            shown.retain(|index| index != column);
        }
    }
    let mut table = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in shown.iter().filter_map(|&column| Some((row.get(column)?, widths[column]))) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.width() + 2));
        }
        table.push_str(&cut(line.trim_end(), width));
        table.push('\n');
    }
    table
}

/// Quotes `text` for a shell if it needs quotes.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text::one_line(text).replace('\'', r"'\''"))
}

/// Returns `-- id` for the end of a command line, so that an id that begins with a dash is not read as an option.
pub(crate) fn last_argument(id: &str) -> String {
    format!("-- {}", shell_word(id))
}

/// Formats a time for people: UTC, to the second.
pub(crate) fn format_utc(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{} {}", text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_width_and_are_cut_at_the_edge() {
        let rows = vec![vec!["東京".to_owned(), "x\x1b[31my".to_owned()], vec!["abc".to_owned(), "longer".to_owned()]];
        assert_eq!(table(&["A", "B"], &rows, &[0], None), "A     B\n東京  x\u{fffd}y\nabc   longer\n");
        assert_eq!(table(&["A", "B"], &rows, &[], Some(8)), "A     B\n東京  x…\nabc   l…\n");
        assert_eq!(table(&["A", "B"], &rows, &[0], Some(8)), "B\nx\u{fffd}y\nlonger\n");
        assert_eq!(table(&["A", "B"], &rows, &[0], Some(12)), "A     B\n東京  x\u{fffd}y\nabc   longer\n");
    }

    #[test]
    fn colours_follow_the_variables_that_people_set() {
        let auto = |variables: &[(&str, &str)], is_terminal| {
            let value =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
            auto_color(value, is_terminal)
        };
        assert!(auto(&[], true) && !auto(&[], false));
        assert!(!auto(&[("NO_COLOR", "1")], true) && auto(&[("NO_COLOR", "")], true));
        assert!(auto(&[("CLICOLOR_FORCE", "1")], false) && !auto(&[("CLICOLOR_FORCE", "0")], false));
        assert!(!auto(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], true));
        assert!(!auto(&[("TERM", "dumb")], true) && !auto(&[("CLICOLOR", "0")], true));
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_read_more_into_them() {
        assert_eq!(shell_word("EL_a_1"), "EL_a_1");
        assert_eq!(shell_word("it's $(rm)"), r"'it'\''s $(rm)'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn nothing_else_writes_to_stdout() {
        // These files sanitise their own output, line by line or cell by cell.
        let known = ["command/play.rs", "command/tail.rs", "render/output.rs", "render/reader.rs", "term/screen.rs"];
        // These calls only ask what stdout is.
        let asks = ["stdout().is_terminal()", "let stdout = io::stdout();"];
        let mut found = Vec::new();
        let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let writes = |line: &&str| line.contains("stdout()") && !asks.iter().any(|asks| line.contains(asks));
                let is_known = known.iter().any(|known| path.ends_with(known));
                found.extend(
                    text.lines().filter(writes).filter(|_| !is_known).map(|line| format!("{}: {line}", path.display())),
                );
            }
        }
        assert_eq!(found, [""; 0], "write through Output, whose type keeps the terminal safe");
    }

    #[test]
    fn an_id_in_a_hint_is_not_read_as_an_option() {
        assert_eq!(last_argument("--save=x"), "-- --save=x");
        assert_eq!(last_argument("a b"), "-- 'a b'");
    }

    #[test]
    fn times_are_shown_to_the_second() {
        let at = Timestamp::from_unix_secs(1_790_855_035).map(format_utc);
        assert_eq!(at.as_deref(), Some("2026-10-01 11:43:55"));
    }
}
