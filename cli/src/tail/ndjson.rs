//! The stream as NDJSON: the messages of the server as they came, and between them what happened to the connection.

use std::io::{self, Write};

use callscope_common::{CallId, CallStatus, Identifier, Seq, Timestamp};
use serde::Serialize;

use super::Sink;
use crate::clock;
use crate::render::Safe;
use crate::stream::{CursorText, EndReason, Ending, Gap, Place, Update};

/// The version of this program's own lines. Later programs may add fields and types under one version, but never change
/// the meaning of those that exist.
pub(crate) const VERSION: u32 = 1;

/// Writes one JSON document per line and flushes each line.
pub(crate) struct NdjsonWriter<W> {
    writer: W,
    clock: fn() -> Timestamp,
    identifiers: Vec<Identifier>,
    places: Vec<Place>,
    over: Vec<bool>,
}

impl<W: Write> NdjsonWriter<W> {
    /// Starts with the calls named by `identifiers`. Characters that a terminal might act on are always escaped, also
    /// in a file.
    pub(crate) fn new(writer: W, identifiers: Vec<Identifier>) -> Self {
        let (places, over) = (vec![Place::default(); identifiers.len()], vec![false; identifiers.len()]);
        let clock = clock::now;
        Self { writer, clock, identifiers, places, over }
    }

    /// Returns the writer.
    pub(crate) fn into_inner(self) -> W {
        self.writer
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(Safe::json_line(text).as_str().as_bytes())?;
        self.writer.flush()
    }

    fn own(&mut self, own: ClientLine<'_>) -> io::Result<()> {
        self.line(&serde_json::to_string(&Timestamped { own, at: (self.clock)() })?)
    }
}

#[derive(Serialize)]
struct Timestamped<'a> {
    #[serde(flatten)]
    own: ClientLine<'a>,
    at: Timestamp,
}

/// What this program adds to the messages of the server.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ClientLine<'a> {
    Ready {
        version: u32,
        identifier: &'a Identifier,
        #[serde(flatten)]
        place: PlaceFields,
    },
    Resumed {
        identifier: &'a Identifier,
        #[serde(flatten)]
        place: PlaceFields,
        proven: bool,
    },
    Reconnecting {
        identifier: &'a Identifier,
        attempt: u32,
        after_ms: u128,
        reason: &'a str,
    },
    Gap {
        identifier: &'a Identifier,
        #[serde(flatten)]
        gap: GapFields,
    },
    End {
        identifier: &'a Identifier,
        #[serde(flatten)]
        end: EndFields<'a>,
    },
}

#[derive(Serialize)]
struct PlaceFields {
    after: Seq,
    call_id: Option<CallId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<CursorText>,
}

impl From<&Place> for PlaceFields {
    fn from(place: &Place) -> Self {
        Self { after: place.seq, call_id: place.call_id, cursor: place.cursor }
    }
}

#[derive(Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
enum GapFields {
    CursorInvalid { after: Seq },
    Missing { expected: Seq, found: Seq },
    Merged { call_id: CallId },
}

#[derive(Serialize)]
struct EndFields<'a> {
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    status: Option<CallStatus>,
    seq: Seq,
    call_id: Option<CallId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<CursorText>,
}

impl From<&Gap> for GapFields {
    fn from(gap: &Gap) -> Self {
        match *gap {
            Gap::CursorInvalid { after } => Self::CursorInvalid { after },
            Gap::Hole { expected, found } => Self::Missing { expected, found },
            Gap::Merged { call_id } => Self::Merged { call_id },
        }
    }
}

impl<'a> From<&'a Ending> for EndFields<'a> {
    fn from(ending: &'a Ending) -> Self {
        let (reason, message) = match &ending.reason {
            EndReason::CallEnded => ("call_ended", None),
            EndReason::CaughtUp => ("caught_up", None),
            EndReason::Failed(failure) => ("failed", Some(failure.message.as_str())),
        };
        let Place { seq, call_id, cursor } = ending.place;
        Self { reason, message, status: ending.status, seq, call_id, cursor }
    }
}

impl<W: Write> Sink for NdjsonWriter<W> {
    fn opened(&mut self, identifier: &Identifier) -> io::Result<()> {
        self.identifiers.push(identifier.clone());
        self.places.push(Place::default());
        self.over.push(false);
        Ok(())
    }

    fn update(&mut self, call: usize, update: &Update, _: Option<Timestamp>) -> io::Result<()> {
        self.places[call].note(update);
        let identifier = &self.identifiers[call].clone();
        let own = match update {
            Update::Message(incoming) => return self.line(&incoming.raw),
            Update::Ready(place) => ClientLine::Ready { version: VERSION, identifier, place: place.into() },
            Update::Resumed { place, proven } => {
                ClientLine::Resumed { identifier, place: place.into(), proven: *proven }
            }
            Update::Reconnecting { attempt, delay, reason, .. } => {
                ClientLine::Reconnecting { identifier, attempt: *attempt, after_ms: delay.as_millis(), reason }
            }
            // A silent connection misses no event yet, so only views show it.
            Update::Quiet { .. } | Update::Heard => return Ok(()),
            Update::Gap(gap) => ClientLine::Gap { identifier, gap: gap.into() },
            Update::Ended(ending) => {
                self.over[call] = true;
                ClientLine::End { identifier, end: ending.into() }
            }
        };
        self.own(own)
    }

    fn interrupted(&mut self) -> io::Result<()> {
        for call in 0..self.identifiers.len() {
            if !self.over[call] {
                let Place { seq, call_id, cursor } = self.places[call];
                let end = EndFields { reason: "interrupted", message: None, status: None, seq, call_id, cursor };
                self.own(ClientLine::End { identifier: &self.identifiers[call].clone(), end })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Incoming;

    #[test]
    fn messages_pass_as_they_came_and_every_line_is_one_document() {
        let mut bytes = Vec::new();
        let mut ndjson = NdjsonWriter::new(&mut bytes, Vec::new());
        ndjson.opened(&Identifier::parse("EL_a_1").unwrap()).unwrap();
        ndjson.clock = || Timestamp::from_unix_secs(0).unwrap();
        let raw = "{\"type\":\"new\",\n \"x\": 1e400,\"seq\":7,\"cursor\":\"7.AAAAAAAH\"}".to_owned();
        ndjson.update(0, &Update::Message(Incoming::read(raw).unwrap()), None).unwrap();
        ndjson.update(0, &Update::Gap(Gap::Hole { expected: 2, found: 4 }), None).unwrap();
        let place = Place { seq: 7, call_id: None, cursor: "7.AAAAAAAH".parse().ok() };
        ndjson.update(0, &Update::Ready(place), None).unwrap();
        ndjson.interrupted().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "{\"type\":\"new\",  \"x\": 1e400,\"seq\":7,\"cursor\":\"7.AAAAAAAH\"}");
        assert_eq!(
            lines[1],
            r#"{"type":"gap","identifier":"EL_a_1","reason":"missing","expected":2,"found":4,"at":"1970-01-01T00:00:00.000000Z"}"#
        );
        assert!(
            lines[2].starts_with(
                r#"{"type":"ready","version":1,"identifier":"EL_a_1","after":7,"call_id":null,"cursor":"7.AAAAAAAH","#
            ),
            "{}",
            lines[2]
        );
        assert_eq!(
            lines[3],
            r#"{"type":"end","identifier":"EL_a_1","reason":"interrupted","status":null,"seq":7,"call_id":null,"cursor":"7.AAAAAAAH","at":"1970-01-01T00:00:00.000000Z"}"#
        );
        assert_eq!(lines.len(), 4);
    }
}
