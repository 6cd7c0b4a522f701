//! Turns events into entries of a transcript.

use callscope_common::protocol::ServerMessage;

use super::entry::{Entry, EntryKind};
use crate::render::{Part, Tint, parts};
use crate::stream::Incoming;

/// Returns the entries of an event: one for a turn, several for a result, none for other events. Equal events give
/// equal entries.
pub(crate) fn entries(message: &ServerMessage, raw: &str) -> Vec<Entry> {
    let entries = match message {
        ServerMessage::Transcription(turn) => {
            vec![Entry::new(EntryKind::Turn(turn.speaker_type), Some(turn.timestamp), &turn.message_text, Some(raw))]
        }
        ServerMessage::CallCompleted(event) => parts(&event.call_data)
            .into_iter()
            .map(|part| {
                let tint = tint(&part);
                let (kind, raw) = match part {
                    Part::Outcome { .. } => (EntryKind::Outcome(tint), Some(raw)),
                    _ => (EntryKind::Result(tint), None),
                };
                Entry::new(kind, None, &part.to_string(), raw)
            })
            .collect(),
        _ => Vec::new(),
    };
    let seq = message.seq().unwrap_or(0);
    entries.into_iter().map(|entry| entry.of(seq)).collect()
}

/// Reads the text of an event and returns its seq and its entries; `None` where the text is no event.
pub(crate) fn read(raw: &str) -> Option<(callscope_common::Seq, Vec<Entry>)> {
    let incoming = Incoming::read(raw.to_owned())?;
    Some((incoming.seq?, entries(&incoming.message, raw)))
}

fn tint(part: &Part) -> Tint {
    match part {
        Part::Outcome { good, .. } | Part::Criterion { good, .. } => match good {
            Some(true) => Tint::Good,
            Some(false) => Tint::Bad,
            None => Tint::Plain,
        },
        Part::Summary(_) | Part::Datum { .. } => Tint::Plain,
    }
}
