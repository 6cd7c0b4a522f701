//! Data on stdout: tables, JSON, NDJSON and plain text, safe to show.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};

use callscope_common::{Timestamp, text};
use serde_json::value::RawValue;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::args::{ColorChoice, Format};
use crate::exit::{Failure, Result};

/// Whether data on stdout is coloured: as `--color` says, else as NO_COLOR, CLICOLOR_FORCE and the terminal do.
pub fn wants_color(choice: ColorChoice) -> bool {
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

/// What a line of text means, where colours may say it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tint {
    /// Nothing in particular.
    Plain,
    /// A header.
    Header,
    /// As it should be.
    Good,
    /// To be looked at.
    Odd,
    /// Wrong.
    Bad,
}

impl Tint {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Header => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Odd => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }
}

/// Writes data to stdout.
pub struct Output {
    /// How.
    pub format: Format,
    /// Width of the terminal it goes to, if it goes to one.
    width: Option<usize>,
    color: bool,
    writer: Box<dyn Write + Send>,
}

impl Output {
    /// To stdout.
    pub fn stdout(format: Format, color: bool) -> Self {
        let width =
            io::stdout().is_terminal().then(|| crossterm::terminal::size().map_or(80, |(width, _)| width.into()));
        Self { format, width, color, writer: Box::new(io::BufWriter::new(io::stdout())) }
    }

    /// Columns of the terminal, where it goes to one.
    pub fn width(&self) -> Option<usize> {
        self.width
    }

    /// Whether the format is one of the JSON ones.
    pub fn is_json(&self) -> bool {
        matches!(self.format, Format::Json | Format::Ndjson)
    }

    /// Writes a list: `rows` under `header` for people, or `items` as JSON under `key`.
    pub fn list(&mut self, key: &str, items: &[Box<RawValue>], header: &[&str], rows: &[Vec<String>]) -> Result<()> {
        self.list_without(key, items, header, rows, &[])
    }

    /// Writes a list like [`Output::list`], but on a terminal without those of the columns `spare` that there is no room for:
    /// the first of them goes first.
    pub fn list_without(
        &mut self,
        key: &str,
        items: &[Box<RawValue>],
        header: &[&str],
        rows: &[Vec<String>],
        spare: &[usize],
    ) -> Result<()> {
        let text = match self.format {
            Format::Table => {
                let text = table(header, rows, spare, self.width);
                let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
                self.write_tinted(&format!("{first}\n"), Tint::Header)?;
                return self.write(rest);
            }
            Format::Text => rows.iter().map(|row| tabbed(row)).collect(),
            Format::Ndjson => items.iter().map(|item| line(item.get())).collect(),
            Format::Json => {
                let items: Vec<&str> = items.iter().map(|item| item.get()).collect();
                format!("{{\"{key}\":[{}]}}\n", items.join(","))
            }
        };
        self.write(&text)
    }

    /// Writes one thing: `fields` for people, or `item` as JSON.
    pub fn record(&mut self, item: &RawValue, fields: &[(&str, String)]) -> Result<()> {
        if self.is_json() {
            return self.write(&line(item.get()));
        }
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let text: String = fields
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name:width$}  {}\n", text::one_line(value)))
            .collect();
        self.write(&text)
    }

    /// Writes one line of text, cut at the terminal's edge, in the colour of what it means.
    pub fn write_tinted(&mut self, line: &str, tint: Tint) -> Result<()> {
        let line = cut(line.trim_end_matches('\n'), self.width);
        let code = tint.code();
        let text = if self.color && !code.is_empty() { format!("{code}{line}\x1b[0m\n") } else { format!("{line}\n") };
        self.write(&text)
    }

    /// Writes `head` in a colour and `text` behind it, in as many lines as the terminal needs, each as far in as the first.
    pub fn write_tinted_wrapped(&mut self, head: &str, text: &str, tint: Tint) -> Result<()> {
        let room = self.width.map_or(usize::MAX, |width| width.saturating_sub(head.width()).max(20));
        let lines = if room == usize::MAX { vec![Cow::Borrowed(text)] } else { textwrap::wrap(text, room) };
        let indent = " ".repeat(head.width());
        let code = if self.color { tint.code() } else { "" };
        let reset = if code.is_empty() { "" } else { "\x1b[0m" };
        let mut block = format!("{code}{head}{reset}");
        for (number, line) in lines.iter().enumerate() {
            block.push_str(if number > 0 { &indent } else { "" });
            block.push_str(line);
            block.push('\n');
        }
        self.write(&block)
    }

    /// Writes text as it is, made safe where it goes to a terminal, and flushes it.
    pub fn write(&mut self, text: &str) -> Result<()> {
        let text = if self.width.is_some() && self.is_json() { json_for_terminal(text) } else { Cow::Borrowed(text) };
        self.writer
            .write_all(text.as_bytes())
            .and_then(|()| self.writer.flush())
            .map_err(|error| Failure::output(&error))
    }
}

/// A JSON text as one line.
fn line(text: &str) -> String {
    format!("{}\n", text.replace(['\n', '\r'], " "))
}

/// Cells between tabs.
pub fn tabbed(row: &[String]) -> String {
    let cells: Vec<_> = row.iter().map(|cell| text::one_line(cell)).collect();
    format!("{}\n", cells.join("\t"))
}

/// Aligned columns; within `width`, where there is one: first the columns `spare` go, then lines are cut.
fn table(header: &[&str], rows: &[Vec<String>], spare: &[usize], width: Option<usize>) -> String {
    let header: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(&header)
        .chain(rows)
        .map(|row| row.iter().map(|cell| text::one_line(cell).into_owned()).collect())
        .collect();
    let widths: Vec<usize> = (0..header.len())
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0))
        .collect();
    let mut shown: Vec<usize> = (0..header.len()).collect();
    let takes = |shown: &[usize]| shown.iter().map(|&column| widths[column] + 2).sum::<usize>().saturating_sub(2);
    for column in spare {
        if width.is_some_and(|width| takes(&shown) > width) {
            shown.retain(|known| known != column);
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

/// `text` within `width` columns, with `…` for what was cut off.
pub fn cut(text: &str, width: Option<usize>) -> Cow<'_, str> {
    let Some(width) = width.filter(|width| text.width() > *width) else { return Cow::Borrowed(text) };
    let mut short = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width.saturating_sub(1) {
            break;
        }
        short.push(c);
    }
    if width > 0 {
        short.push('…');
    }
    Cow::Owned(short)
}

/// JSON with every character that a terminal might act on as its `\u` escape: the same JSON, safe to show.
pub fn json_for_terminal(json: &str) -> Cow<'_, str> {
    if json.is_ascii() && !json.contains('\u{7f}') {
        return Cow::Borrowed(json);
    }
    let mut safe = String::with_capacity(json.len());
    let mut buffer = [0; 4];
    for c in json.chars() {
        let shown: &str = c.encode_utf8(&mut buffer);
        if c.is_ascii_graphic() || matches!(c, ' ' | '\n') || text::one_line(shown) == shown {
            safe.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Cow::Owned(safe)
}

/// `text` as one word of a shell: quoted unless it needs no quotes.
pub fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text::one_line(text).replace('\'', r"'\''"))
}

/// A time for people: UTC, to the second.
pub fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{} {}", text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default())
}

#[cfg(test)]
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
    fn wide_characters_are_not_cut_in_half() {
        assert_eq!(cut("日本語", Some(4)), "日…");
        assert_eq!(cut("日本語", Some(6)), "日本語");
    }

    #[test]
    fn json_on_a_terminal_is_the_same_json() {
        let json = "{\"a\":\"x\u{202e}y\u{9b}2J é 東 \u{7f}\u{e0041}\"}";
        let safe = json_for_terminal(json);
        assert_eq!(safe, "{\"a\":\"x\\u202ey\\u009b2J é 東 \\u007f\\udb40\\udc41\"}");
        let (before, after): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(json).unwrap_or_default(), serde_json::from_str(&safe).unwrap_or_default());
        assert_eq!(before, after);
        assert!(before.is_object());
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_read_more_into_them() {
        assert_eq!(shell_word("EL_a_1"), "EL_a_1");
        assert_eq!(shell_word("it's $(rm)"), r"'it'\''s $(rm)'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn moments_are_short() {
        let at = Timestamp::from_unix_secs(1_790_855_035).map(moment);
        assert_eq!(at.as_deref(), Some("2026-10-01 11:43:55"));
    }
}
