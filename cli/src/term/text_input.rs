//! A line of text that is being typed.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use unicode_segmentation::UnicodeSegmentation as _;

/// Longest text, in characters.
const MAX_CHARS: usize = 1000;

/// A text and the position of the cursor in it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct TextInput {
    text: String,
    /// The byte at which a grapheme begins.
    cursor: usize,
}

impl TextInput {
    /// Starts with the cursor behind `text`.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { cursor: text.len(), text }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the text before the cursor.
    pub(crate) fn before(&self) -> &str {
        &self.text[..self.cursor]
    }

    /// Takes a key in. Returns whether the key edits text.
    pub(crate) fn handle_key(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('a') if control => self.cursor = 0,
            KeyCode::Char('e') if control => self.cursor = self.text.len(),
            KeyCode::Char('u') if control => {
                self.text.drain(..self.cursor);
                self.cursor = 0;
            }
            KeyCode::Char('w') if control => self.delete_word(),
            KeyCode::Char(c) if !control && !key.modifiers.contains(KeyModifiers::ALT) => self.insert(c),
            KeyCode::Backspace => {
                let end = self.cursor;
                self.cursor = self.previous();
                self.text.drain(self.cursor..end);
            }
            KeyCode::Delete if self.cursor < self.text.len() => {
                self.text.drain(self.cursor..self.next());
            }
            KeyCode::Left => self.cursor = self.previous(),
            KeyCode::Right => self.cursor = self.next(),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.text.len(),
            _ => return false,
        }
        true
    }

    /// Inserts pasted text as one line.
    pub(crate) fn paste(&mut self, text: &str) {
        callscope_common::text::one_line(text).chars().for_each(|c| self.insert(c));
    }

    /// Returns where the grapheme before the cursor begins.
    fn previous(&self) -> usize {
        self.cursor - self.before().graphemes(true).next_back().map_or(0, str::len)
    }

    /// Returns where the grapheme behind the cursor ends.
    fn next(&self) -> usize {
        self.cursor + self.text[self.cursor..].graphemes(true).next().map_or(0, str::len)
    }

    fn insert(&mut self, c: char) {
        if !c.is_control() && self.text.chars().count() < MAX_CHARS {
            self.text.insert(self.cursor, c);
            self.cursor += c.len_utf8();
        }
    }

    fn delete_word(&mut self) {
        let kept = self.before().trim_end().rfind(' ').map_or(0, |blank| blank + 1);
        self.text.drain(kept..self.cursor);
        self.cursor = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &mut TextInput, keys: &[KeyCode]) {
        for key in keys {
            line.handle_key((*key).into());
        }
    }

    #[test]
    fn characters_of_any_length_are_edited() {
        let mut line = TextInput::new("aé東");
        typed(&mut line, &[KeyCode::Left, KeyCode::Backspace, KeyCode::Char('ß')]);
        assert_eq!((line.text(), line.before()), ("aß東", "aß"));
        typed(&mut line, &[KeyCode::Home, KeyCode::Left, KeyCode::Backspace, KeyCode::Delete]);
        assert_eq!((line.text(), line.before()), ("ß東", ""));
        typed(&mut line, &[KeyCode::End, KeyCode::Right, KeyCode::Delete, KeyCode::Char('x')]);
        assert_eq!(line.text(), "ß東x");
    }

    #[test]
    fn letters_with_marks_and_joined_emoji_are_one_character() {
        let mut line = TextInput::new("aनमस्ते👩\u{200d}🚒");
        typed(&mut line, &[KeyCode::Backspace, KeyCode::Backspace]);
        assert_eq!(line.text(), "aनम");
        let mut line = TextInput::new("e\u{301}x");
        typed(&mut line, &[KeyCode::Home, KeyCode::Right]);
        assert_eq!(line.before(), "e\u{301}");
        typed(&mut line, &[KeyCode::Left, KeyCode::Delete]);
        assert_eq!(line.text(), "x");
    }

    #[test]
    fn words_and_lines_go_at_once_and_a_paste_is_one_line() {
        let mut line = TextInput::new("tow truck ");
        line.handle_key(KeyEvent::new(KeyCode::Char('w'), KeyModifiers::CONTROL));
        assert_eq!(line.text(), "tow ");
        line.paste("a\nb\x1b[2J");
        assert_eq!(line.text(), "tow a b\u{fffd}");
        line.handle_key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
        assert_eq!(line, TextInput::default());
    }
}
