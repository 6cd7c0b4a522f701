//! What an event is on the screen.

use callscope_common::protocol::ServerMessage;

use super::entry::{Entry, EntryKind, Tone};
use crate::render::{Part, parts};
use crate::stream::Incoming;

/// The entries that an event is shown as: one for a turn, several for a result, none for others. The same event always gives the
/// same ones.
pub fn entries(message: &ServerMessage, raw: &str) -> Vec<Entry> {
    let entries = match message {
        ServerMessage::Transcription(turn) => {
            vec![Entry::new(EntryKind::Turn(turn.speaker_type), Some(turn.timestamp), &turn.message_text, Some(raw))]
        }
        ServerMessage::CallCompleted(event) => parts(&event.call_data)
            .into_iter()
            .map(|part| {
                let tone = tone(&part);
                let (kind, raw) = match part {
                    Part::Outcome { .. } => (EntryKind::Outcome(tone), Some(raw)),
                    _ => (EntryKind::Result(tone), None),
                };
                Entry::new(kind, None, &part.to_string(), raw)
            })
            .collect(),
        _ => Vec::new(),
    };
    let seq = message.seq().unwrap_or(0);
    entries.into_iter().map(|entry| entry.of(seq)).collect()
}

/// The same of an event's text, with its seq; `None` for what is no event.
pub fn read(raw: &str) -> Option<(callscope_common::Seq, Vec<Entry>)> {
    let incoming = Incoming::read(raw.to_owned())?;
    Some((incoming.seq?, entries(&incoming.message, raw)))
}

fn tone(part: &Part) -> Tone {
    match part {
        Part::Outcome { good, .. } | Part::Criterion { good, .. } => match good {
            Some(true) => Tone::Good,
            Some(false) => Tone::Bad,
            None => Tone::Plain,
        },
        Part::Summary(_) | Part::Datum { .. } => Tone::Plain,
    }
}
