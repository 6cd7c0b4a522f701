//! Reduces text to characters that every terminal draws at the same width.

use std::borrow::Cow;

use callscope_common::text;
use unicode_normalization::{IsNormalized, UnicodeNormalization as _};
use unicode_segmentation::UnicodeSegmentation as _;

/// Most marks on one character. A longer stack of marks would run over the lines above.
const MAX_MARKS: usize = 4;

/// Returns `text` safe to draw: on one line, and without the sequences whose width terminals do not agree on. Flags
/// become their letters and joined emoji their first part; skin tones and variation selectors are dropped.
pub(crate) fn drawable(text: &str) -> Cow<'_, str> {
    let safe = text::one_line(text);
    if safe.is_ascii() {
        return safe;
    }
    // Normalized text is found in whichever form it was typed.
    Cow::Owned(normalized(&safe).graphemes(true).flat_map(reduce).collect())
}

fn reduce(grapheme: &str) -> Vec<char> {
    let first = grapheme.chars().next();
    let joined = grapheme.contains('\u{200d}') && first.is_some_and(|first| !first.is_alphanumeric());
    grapheme
        .chars()
        .enumerate()
        .take_while(|(place, _)| if joined { *place < 1 } else { *place <= MAX_MARKS * 2 })
        .filter_map(|(_, c)| match c {
            '\u{1f1e6}'..='\u{1f1ff}' => char::from_u32(u32::from(c) - 0x1f1e6 + u32::from('A')),
            '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}' => None,
            c => Some(c),
        })
        .collect()
}

/// Returns `text` with one spelling for every letter and its marks: composed (NFC), and a half-width kana with its
/// sound mark as one character, which every terminal draws as wide as the two.
pub(crate) fn normalized(text: &str) -> Cow<'_, str> {
    let is_mark = |c: char| matches!(c, '\u{ff9e}' | '\u{ff9f}');
    if unicode_normalization::is_nfc_quick(text.chars()) == IsNormalized::Yes && !text.contains(is_mark) {
        return Cow::Borrowed(text);
    }
    let mut composed = String::with_capacity(text.len());
    let mut chars = text.nfc().peekable();
    while let Some(c) = chars.next() {
        let voiced = chars.peek().filter(|mark| is_mark(**mark)).and_then(|mark| voiced(c, *mark));
        composed.push(voiced.unwrap_or(c));
        if voiced.is_some() {
            chars.next();
        }
    }
    Cow::Owned(composed)
}

/// Returns a half-width kana and its sound mark as one character, if there is one.
fn voiced(kana: char, mark: char) -> Option<char> {
    let mut both = [kana, mark].into_iter().nfkc();
    both.next().filter(|_| matches!(kana, '\u{ff66}'..='\u{ff9d}') && both.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

    #[test]
    fn sequences_are_reduced() {
        assert_eq!(drawable("🇩🇪 👩\u{200d}🚒 👍🏽 ❤\u{fe0f} é 東"), "DE 👩 👍 ❤ é 東");
        assert_eq!(drawable("नमस्\u{200d}ते"), "नमस्\u{200d}ते");
        assert_eq!(drawable("\x1b[2Jx"), "\u{fffd}x");
    }

    #[test]
    fn stacks_of_marks_are_cut() {
        let tall = format!("a{}", "\u{301}".repeat(50));
        assert!(drawable(&tall).chars().count() < 12);
    }

    #[test]
    fn what_is_left_is_as_wide_as_its_parts() {
        for text in ["🇩🇪🇫🇷", "👨\u{200d}👩\u{200d}👧\u{200d}👦", "👍🏽", "❤\u{fe0f}", "1\u{fe0f}\u{20e3}", "한국어 東京"]
        {
            let drawn = drawable(text);
            let parts: usize = drawn.chars().filter_map(|c| c.width()).sum();
            assert_eq!(drawn.width(), parts, "{text}");
        }
    }
}
