//! The stream as NDJSON: the messages of the server as they came, and between them what happened to the connection.

use std::io::{self, Write};

use callscope_common::{Identifier, Timestamp};
use serde::Serialize;

use super::{ClientLine, Sink};
use crate::clock;
use crate::render::Safe;
use crate::stream::{Place, Update};

/// Writes one JSON document per line and flushes each line.
pub(crate) struct NdjsonWriter<W> {
    writer: W,
    clock: fn() -> Timestamp,
    calls: Vec<Call>,
}

struct Call {
    identifier: Identifier,
    place: Place,
    is_over: bool,
}

impl<W: Write> NdjsonWriter<W> {
    /// Starts with the calls named by `identifiers`. Characters that a terminal might act on are always escaped, also
    /// in a file.
    pub(crate) fn new(writer: W, identifiers: Vec<Identifier>) -> Self {
        let mut ndjson = Self { writer, clock: clock::now, calls: Vec::new() };
        identifiers.into_iter().for_each(|identifier| ndjson.add(identifier));
        ndjson
    }

    fn add(&mut self, identifier: Identifier) {
        self.calls.push(Call { identifier, place: Place::default(), is_over: false });
    }

    /// Returns the writer.
    pub(crate) fn into_inner(self) -> W {
        self.writer
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(Safe::json_line(text).as_str().as_bytes())?;
        self.writer.flush()
    }

    fn client_line(&mut self, line: ClientLine) -> io::Result<()> {
        self.line(&serde_json::to_string(&Timestamped { line, at: (self.clock)() })?)
    }
}

#[derive(Serialize)]
struct Timestamped {
    #[serde(flatten)]
    line: ClientLine,
    at: Timestamp,
}

impl<W: Write> Sink for NdjsonWriter<W> {
    fn opened(&mut self, identifier: &Identifier) -> io::Result<()> {
        self.add(identifier.clone());
        Ok(())
    }

    fn update(&mut self, call: usize, update: &Update, _: Option<Timestamp>) -> io::Result<()> {
        let call = &mut self.calls[call];
        call.place.advance(update);
        call.is_over |= matches!(update, Update::Ended(_));
        if let Update::Message(incoming) = update {
            return self.line(&incoming.raw);
        }
        ClientLine::new(&call.identifier, update).map_or(Ok(()), |line| self.client_line(line))
    }

    fn interrupted(&mut self) -> io::Result<()> {
        let running = self.calls.iter().filter(|call| !call.is_over);
        let lines: Vec<ClientLine> =
            running.map(|call| ClientLine::interrupted(&call.identifier, call.place)).collect();
        lines.into_iter().try_for_each(|line| self.client_line(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Gap, Incoming};

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
