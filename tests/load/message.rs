//! The published messages: JSON of a turn whose text starts with a mark, by which watchers recognize each delivery.

use std::sync::OnceLock;
use std::time::Instant;

use memchr::memmem;

/// Approximate length of a WebSocket frame of the benchmark, in bytes.
const FRAME_BYTES: usize = 400;
/// Bytes of a relayed message besides the turn's text, if its numbers have several digits.
const ENVELOPE_BYTES: usize = 293;
/// Length of `[[`, topic, turn and time in hex, `]]`.
const MARK_BYTES: usize = 2 + 8 + 8 + 16 + 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The topic to which the turn was published.
    pub topic: u32,
    /// The turn's number in its topic, from 0.
    pub turn: u32,
    /// The time at which the turn was due, in nanoseconds of [`now`].
    pub due_at: u64,
}

/// Returns the nanoseconds since the program first read the clock.
#[must_use]
pub fn now() -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    u64::try_from(EPOCH.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Returns a text of `len` bytes that starts with the mark.
fn marked_text(mark: Mark, len: usize) -> String {
    let Mark { topic, turn, due_at } = mark;
    let mut text = format!("[[{topic:08x}{turn:08x}{due_at:016x}]]");
    text.extend(std::iter::repeat_n('x', len.saturating_sub(MARK_BYTES)));
    text
}

/// Returns the name of a topic's call.
#[must_use]
pub fn call_sid(topic: u32) -> String {
    format!("load-{topic:05}")
}

/// Returns the webhook of a turn, for servers that accept Callscope's webhooks. The text is longer by `extra_bytes`,
/// for servers whose messages have fewer fields.
#[must_use]
pub fn webhook(mark: Mark, extra_bytes: usize) -> String {
    let text = marked_text(mark, FRAME_BYTES - ENVELOPE_BYTES + extra_bytes);
    format!(r#"{{"call_sid":"{}","speaker":"agent","message":"{text}"}}"#, call_sid(mark.topic))
}

/// Returns a turn's message as long as Callscope's, for servers that relay it unchanged.
#[must_use]
pub fn relayed_message(mark: Mark) -> String {
    let (number, text) = (mark.turn + 1, marked_text(mark, FRAME_BYTES - ENVELOPE_BYTES));
    format!(
        r#"{{"type":"transcription","conversation_id":null,"call_sid":"{}","transcription_id":{number},"sequence_number":{number},"speaker_type":"agent","message_text":"{text}","timestamp":"2026-10-01T14:00:31.000000Z","seq":{number},"call_id":"01a22c3c-dca9-76a4-8fc3-b7b576f3aa1c","cursor":"{number}.t7V286ocdcrYoFKvjjY"}}"#,
        call_sid(mark.topic)
    )
}

/// A search for marks in received bytes.
#[derive(Debug)]
pub struct MarkFinder(memmem::Finder<'static>);

impl Default for MarkFinder {
    fn default() -> Self {
        Self(memmem::Finder::new(b"[["))
    }
}

impl MarkFinder {
    /// Calls `on_mark` for each mark in `bytes` and returns the number of bytes searched. The bytes after them may be
    /// the beginning of a mark.
    pub fn read(&self, bytes: &[u8], mut on_mark: impl FnMut(Mark)) -> usize {
        let mut searched = 0;
        while let Some(found) = self.0.find(&bytes[searched..]) {
            let start = searched + found;
            if bytes.len() < start + MARK_BYTES {
                return start;
            }
            match parse(&bytes[start + 2..start + MARK_BYTES - 2]) {
                Some(mark) => {
                    on_mark(mark);
                    searched = start + MARK_BYTES;
                }
                None => searched = start + 1,
            }
        }
        // A single bracket at the end may begin a mark.
        bytes.len() - usize::from(bytes.last() == Some(&b'['))
    }
}

fn parse(digits: &[u8]) -> Option<Mark> {
    let hex = |digits: &[u8]| {
        digits.iter().try_fold(0_u64, |sum, digit| Some(sum << 4 | u64::from((*digit as char).to_digit(16)?)))
    };
    let hex_u32 = |digits: &[u8]| hex(digits).and_then(|number| u32::try_from(number).ok());
    Some(Mark { topic: hex_u32(&digits[..8])?, turn: hex_u32(&digits[8..16])?, due_at: hex(&digits[16..])? })
}
