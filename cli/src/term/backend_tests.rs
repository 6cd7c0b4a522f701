//! Tests of [`super::RowBackend`] on a terminal that counts widths in its own way.

use std::cell::RefCell;
use std::rc::Rc;

use ratatui::Terminal;
use ratatui::style::Style;
use unicode_width::UnicodeWidthChar as _;

use super::*;

const SIZE: (u16, u16) = (40, 6);

/// Texts of scripts whose width terminals count differently, and two that all agree on.
const TEXTS: [&str; 12] = [
    "नमस्ते, आपकी गाड़ी कहाँ है?",
    "বাংলা ভাষায় কথা বলুন",
    "தமிழ் மொழியில் பேசுங்கள்",
    "తెలుగులో మాట్లాడండి",
    "සිංහල භාෂාව",
    "น้ำท่วมทำไม",
    "ខ្មែរ ភាសា",
    "မြန်မာဘာသာ",
    "ｶﾞｷﾞﾊﾟ half-width",
    "👩\u{200d}🚒 👍🏽 ❤\u{fe0f} 🇩🇪",
    "한국어 한국어",
    "plain words, and a wide 東京",
];

/// A terminal that understands what this program sends: text, positions and erasing, but no styles. It takes the width
/// of each character from `count` and overwrites what is there.
struct Odd {
    count: fn(char) -> usize,
    cells: Vec<Vec<String>>,
    at: (usize, usize),
    pending: Vec<u8>,
}

impl Odd {
    fn take(&mut self) {
        let text = String::from_utf8(std::mem::take(&mut self.pending)).unwrap();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '\x1b' {
                self.print(c);
                continue;
            }
            assert_eq!(chars.next(), Some('['));
            let mut parameters = String::new();
            let end = loop {
                let c = chars.next().unwrap();
                if c.is_ascii_alphabetic() {
                    break c;
                }
                parameters.push(c);
            };
            self.obey(end, &parameters);
        }
    }

    fn obey(&mut self, end: char, parameters: &str) {
        let (x, y) = self.at;
        match (end, parameters) {
            ('H', place) => {
                let (row, column) = place.split_once(';').unwrap();
                self.at = (column.parse::<usize>().unwrap() - 1, row.parse::<usize>().unwrap() - 1);
            }
            ('K', "") | ('K', "0") => self.cells[y][x..].fill(" ".into()),
            ('J', "2") => self.cells.iter_mut().for_each(|row| row.fill(" ".into())),
            ('m' | 'h' | 'l', _) => {}
            other => panic!("{other:?}"),
        }
    }

    fn print(&mut self, c: char) {
        let (x, y) = self.at;
        let width = (self.count)(c);
        let row = &mut self.cells[y];
        if width == 0 {
            row[x.saturating_sub(1)].push(c);
            return;
        }
        // At the end of a row, the cursor stays there.
        let x = x.min(row.len() - width);
        // A wide character that is half overwritten disappears.
        if row[x].is_empty() {
            row[x - 1] = " ".into();
        }
        if let Some(next) = row.get_mut(x + width).filter(|next| next.is_empty()) {
            *next = " ".into();
        }
        row[x] = c.into();
        row[x + 1..x + width].fill(String::new());
        self.at.0 = (x + width).min(row.len());
    }
}

#[derive(Clone)]
struct Line(Rc<RefCell<Odd>>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().pending.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().take();
        Ok(())
    }
}

fn terminal(count: fn(char) -> usize) -> (Terminal<RowBackend<Line>>, Rc<RefCell<Odd>>) {
    let row = vec![" ".to_owned(); SIZE.0.into()];
    let odd = Odd { count, cells: vec![row; SIZE.1.into()], at: (0, 0), pending: Vec::new() };
    let odd = Rc::new(RefCell::new(odd));
    (Terminal::new(RowBackend::new(Line(Rc::clone(&odd)), || SIZE)).unwrap(), odd)
}

fn draw(terminal: &mut Terminal<RowBackend<Line>>, rows: &[&str]) {
    terminal
        .draw(|frame| {
            for (y, row) in (0..SIZE.1).zip(rows) {
                frame.buffer_mut().set_stringn(
                    0,
                    y,
                    super::super::drawable::drawable(row),
                    SIZE.0.into(),
                    Style::new(),
                );
            }
        })
        .unwrap();
}

#[test]
fn what_is_on_the_screen_never_depends_on_what_was_there() {
    // Three ways in which terminals count: marks take room, marks take none, and everything but ASCII is wide.
    let counts: [fn(char) -> usize; 3] = [
        |c| if c.is_ascii() { 1 } else { c.width().unwrap_or(0).max(1) },
        |c| if c.is_alphanumeric() || c.is_ascii() { c.width().unwrap_or(0).min(2) } else { 0 },
        |c| if c.is_ascii() { 1 } else { 2 },
    ];
    for count in counts {
        let (mut scrolled, seen) = terminal(count);
        for top in 0..TEXTS.len() {
            let rows: Vec<&str> = TEXTS.iter().cycle().skip(top).take(SIZE.1.into()).copied().collect();
            draw(&mut scrolled, &rows);
            let (mut fresh, expected) = terminal(count);
            draw(&mut fresh, &rows);
            assert_eq!(seen.borrow().cells, expected.borrow().cells, "scrolled to {top}");
        }
        draw(&mut scrolled, &["help", "keys", "", "q", "", ""]);
        let (mut fresh, expected) = terminal(count);
        draw(&mut fresh, &["help", "keys", "", "q", "", ""]);
        assert_eq!(seen.borrow().cells, expected.borrow().cells, "nothing of other scripts is left");
    }
}

#[test]
fn plain_rows_are_not_written_again() {
    let (mut terminal, odd) = terminal(|c| c.width().unwrap_or(0));
    draw(&mut terminal, &["a plain row", "नमस्ते"]);
    // Something else wrote over the screen. Cells that do not change keep that until they are drawn again.
    odd.borrow_mut().cells[0][5] = "!".into();
    draw(&mut terminal, &["a plain rOw", "नमस्ते"]);
    assert_eq!(odd.borrow().cells[0][..11].concat(), "a pla!n rOw");
}
