//! What is published: JSON of a turn's shape, whose text holds a mark that tells deliveries apart.

use std::sync::OnceLock;
use std::time::Instant;

use memchr::memmem;

/// Approximate length of a WebSocket frame of the benchmark, in bytes.
const FRAME: usize = 400;
/// Bytes of such a message besides the turn's text, as [`passed_on`] writes it with numbers of several digits.
const BESIDE: usize = 293;
/// Length of `[[`, topic, turn and time in hex, `]]`.
const MARK: usize = 2 + 8 + 8 + 16 + 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The topic to which it was published.
    pub topic: u32,
    /// The turn's number in its topic, from 0.
    pub turn: u32,
    /// The time of its publication, in nanoseconds of [`now`].
    pub at: u64,
}

/// Returns the nanoseconds since the program first read the clock.
#[must_use]
pub fn now() -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    u64::try_from(EPOCH.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Returns a turn's text: its mark and filling.
fn text(mark: Mark, len: usize) -> String {
    let Mark { topic, turn, at } = mark;
    let mut text = format!("[[{topic:08x}{turn:08x}{at:016x}]]");
    text.extend(std::iter::repeat_n('x', len.saturating_sub(MARK)));
    text
}

/// Returns the name of a topic's call.
#[must_use]
pub fn call_sid(topic: u32) -> String {
    format!("load-{topic:05}")
}

/// Returns the webhook that brings a turn to Callscope or to a server that takes its webhooks. `further` is a number of
/// bytes that lengthens the text if the server's message says less.
#[must_use]
pub fn webhook(mark: Mark, further: usize) -> String {
    let text = text(mark, FRAME - BESIDE + further);
    format!(r#"{{"call_sid":"{}","speaker":"agent","message":"{text}"}}"#, call_sid(mark.topic))
}

/// Returns a turn's message as long as Callscope's, for servers that pass on what they receive.
#[must_use]
pub fn passed_on(mark: Mark) -> String {
    let (number, text) = (mark.turn + 1, text(mark, FRAME - BESIDE));
    format!(
        r#"{{"type":"transcription","conversation_id":null,"call_sid":"{}","transcription_id":{number},"sequence_number":{number},"speaker_type":"agent","message_text":"{text}","timestamp":"2026-10-01T14:00:31.000000Z","seq":{number},"call_id":"01a22c3c-dca9-76a4-8fc3-b7b576f3aa1c","cursor":"{number}.t7V286ocdcrYoFKvjjY"}}"#,
        call_sid(mark.topic)
    )
}

/// Finds marks in messages.
#[derive(Debug)]
pub struct Marks(memmem::Finder<'static>);

impl Default for Marks {
    fn default() -> Self {
        Self(memmem::Finder::new(b"[["))
    }
}

impl Marks {
    /// Reads the marks in `bytes` and returns how many bytes they reach; what follows may hold the beginning of a mark.
    pub fn read(&self, bytes: &[u8], mut see: impl FnMut(Mark)) -> usize {
        let mut at = 0;
        while let Some(found) = self.0.find(&bytes[at..]) {
            let start = at + found;
            if bytes.len() < start + MARK {
                return start;
            }
            match parse(&bytes[start + 2..start + MARK - 2]) {
                Some(mark) => {
                    see(mark);
                    at = start + MARK;
                }
                None => at = start + 1,
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
    let short = |digits: &[u8]| hex(digits).and_then(|number| u32::try_from(number).ok());
    Some(Mark { topic: short(&digits[..8])?, turn: short(&digits[8..16])?, at: hex(&digits[16..])? })
}
