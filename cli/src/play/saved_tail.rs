//! Reads a saved tail.

use std::collections::HashMap;
use std::io::{BufRead, Read as _};
use std::path::Path;

use callscope_common::protocol::ServerMessage;
use callscope_common::{Identifier, Seq, Timestamp};
use serde::Deserialize;

use crate::exit::{Exit, Failure, Result};
use crate::stream::{EndReason, Ending, Incoming, Place, Update};
use crate::tail::ClientLine;

/// Longest line, in bytes. The result of a call can contain all of the provider's analysis.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// A saved tail, as lines.
#[derive(Debug)]
pub(crate) struct SavedTail {
    /// The calls, by number.
    pub(crate) identifiers: Vec<Identifier>,
    pub(crate) lines: Vec<SavedLine>,
}

#[derive(Debug)]
pub(crate) struct SavedLine {
    /// The number of its call.
    pub(crate) call: usize,
    pub(crate) content: LineContent,
    /// When the line was written or the turn was spoken, if the line says so.
    pub(crate) at: Option<Timestamp>,
}

/// The content of a line. Messages are kept as text, since parsed ones would take twice the memory.
#[derive(Debug)]
pub(crate) enum LineContent {
    /// A message of the server.
    Message(Box<str>),
    /// Something that happened to the connection.
    Client(Box<Update>),
}

impl LineContent {
    /// Returns the update that the line was made from.
    pub(crate) fn into_update(self) -> Update {
        let raw = match self {
            Self::Message(raw) => String::from(raw),
            Self::Client(update) => return *update,
        };
        // A line that is not a message was already refused when the file was read, so the fallback is never used.
        let incoming = Incoming::read(raw).unwrap_or_else(|| Incoming {
            raw: String::new(),
            message: ServerMessage::Unknown(String::new()),
            seq: None,
            cursor: None,
        });
        Update::Message(incoming)
    }
}

impl SavedTail {
    /// Reads a file; `-` stands for stdin.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if path.as_os_str() == "-" {
            return Self::read(std::io::stdin().lock(), path);
        }
        let file = std::fs::File::open(path).map_err(|error| Failure::file("read", path, &error))?;
        Self::read(std::io::BufReader::new(file), path)
    }

    fn read(mut from: impl BufRead, path: &Path) -> Result<Self> {
        let mut reading = Parser::default();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let mut limited = from.by_ref().take(MAX_LINE_BYTES);
            let read = limited.read_until(b'\n', &mut line).map_err(|error| Failure::file("read", path, &error))?;
            if read == 0 {
                break;
            }
            let wrong = |why: String| {
                Failure::new(Exit::Error, format!("{}:{number}: {why}", path.display()))
                    .hint("play takes what `callscope tail ID --save FILE` wrote")
            };
            let text = std::str::from_utf8(&line).map_err(|_| wrong("this is not UTF-8".into()))?.trim();
            // A tail that was killed may leave an incomplete line at the end.
            let last = !line.ends_with(b"\n");
            match reading.line(text) {
                Err(_) if last && !reading.lines.is_empty() => {}
                read => read.map_err(wrong)?,
            }
        }
        if reading.lines.is_empty() {
            return Err(Failure::new(Exit::Error, format!("{} holds no call", path.display()))
                .hint("play takes what `callscope tail ID --save FILE` wrote"));
        }
        Ok(reading.finish())
    }
}

#[derive(Default)]
struct Parser {
    identifiers: Vec<Identifier>,
    lines: Vec<SavedLine>,
    /// The number of the call that each known name belongs to.
    names: HashMap<String, usize>,
    places: Vec<Place>,
    ended: Vec<bool>,
}

/// The fields that say which call a line belongs to, and when it was written. Any of them may be missing.
#[derive(Deserialize)]
struct LineHead {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    identifier: Option<String>,
    #[serde(default)]
    call_sid: Option<String>,
    #[serde(default)]
    conversation_id: Option<String>,
    #[serde(default)]
    at: Option<Timestamp>,
    #[serde(default)]
    timestamp: Option<Timestamp>,
    #[serde(default)]
    call_end_time: Option<Timestamp>,
    #[serde(default)]
    seq: Option<Seq>,
}

impl Parser {
    fn line(&mut self, text: &str) -> std::result::Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        let head: LineHead =
            serde_json::from_str(text).map_err(|error| format!("this is no line of a saved tail: {error}"))?;
        let call = self.call(&head);
        let content = match head.kind.as_str() {
            "ready" | "resumed" | "reconnecting" | "gap" | "end" => {
                let line: ClientLine =
                    serde_json::from_str(text).map_err(|error| format!("a {} line: {error}", head.kind))?;
                let Some(update) = line.into_update()? else { return Ok(()) };
                self.ended[call] |= matches!(update, Update::Ended(_));
                LineContent::Client(Box::new(update))
            }
            _ => {
                if head.kind != "subscription_confirmed" {
                    self.places[call].seq = head.seq.unwrap_or(self.places[call].seq);
                }
                LineContent::Message(text.into())
            }
        };
        self.lines.push(SavedLine { call, content, at: head.at.or(head.timestamp).or(head.call_end_time) });
        Ok(())
    }

    /// Returns the number of the call that a line belongs to: a known call with one of its names, else a new call. A
    /// line without a name belongs to the first call.
    fn call(&mut self, head: &LineHead) -> usize {
        let names: Vec<&String> =
            [&head.call_sid, &head.identifier, &head.conversation_id].into_iter().flatten().collect();
        let known = names.iter().find_map(|name| self.names.get(name.as_str()).copied());
        let call = known.unwrap_or_else(|| {
            // The file may have been edited, so a name may not be a valid identifier.
            let name = names.first().and_then(|name| Identifier::parse(name).ok());
            match name.or_else(|| Identifier::parse("recording").ok()) {
                Some(identifier) if !names.is_empty() || self.identifiers.is_empty() => {
                    self.identifiers.push(identifier);
                    self.places.push(Place::default());
                    self.ended.push(false);
                    self.identifiers.len() - 1
                }
                _ => 0,
            }
        });
        for name in names {
            self.names.entry(name.clone()).or_insert(call);
        }
        call
    }

    /// Adds an end for each call that has none in the file.
    fn finish(mut self) -> SavedTail {
        for call in 0..self.identifiers.len() {
            if !self.ended[call] {
                let ending = Ending { reason: EndReason::CaughtUp, status: None, place: self.places[call] };
                self.lines.push(SavedLine {
                    call,
                    content: LineContent::Client(Box::new(Update::Ended(ending))),
                    at: None,
                });
            }
        }
        SavedTail { identifiers: self.identifiers, lines: self.lines }
    }
}

#[cfg(test)]
#[path = "saved_tail_tests.rs"]
mod tests;
