//! The stream as plain lines: turns on stdout, each flushed, and what happens to the connection on stderr.

use std::io::{self, Write};

use callscope_common::protocol::{ServerMessage, Transcription};
use callscope_common::transcript::clock;
use callscope_common::{CallData, Identifier, Speaker, Timestamp, text};

use super::Sink;
use crate::render::{Console, format_utc, parts};
use crate::stream::{EndReason, Ending, Gap, Place, Update};

/// Writes turns as `MM:SS speaker  text`.
pub(crate) struct PlainWriter<W> {
    writer: W,
    console: Console,
    identifiers: Vec<Identifier>,
    /// Whether each line names its call.
    several: bool,
    /// For each call, whether its result was written.
    has_result: Vec<bool>,
    color: bool,
    timestamps: bool,
}

impl<W: Write> PlainWriter<W> {
    /// Starts with the calls named by `identifiers`. Each line names its call unless there is exactly one identifier.
    pub(crate) fn new(
        writer: W,
        console: Console,
        identifiers: Vec<Identifier>,
        color: bool,
        timestamps: bool,
    ) -> Self {
        let (has_result, several) = (vec![false; identifiers.len()], identifiers.len() != 1);
        Self { writer, console, identifiers, several, has_result, color, timestamps }
    }

    fn prefix(&self, call: usize) -> String {
        if self.several { format!("{} | ", self.identifiers[call]) } else { String::new() }
    }

    fn line(&mut self, call: usize, line: &str) -> io::Result<()> {
        writeln!(self.writer, "{}{line}", self.prefix(call))?;
        self.writer.flush()
    }

    fn turn(&mut self, call: usize, turn: &Transcription, start: Option<Timestamp>) -> io::Result<()> {
        let at = if self.timestamps {
            format_utc(turn.timestamp)
        } else {
            clock(start.map_or(0.0, |start| turn.timestamp.secs_since(start)))
        };
        let (on, off) = if self.color { (color(turn.speaker_type), "\x1b[0m") } else { ("", "") };
        let text = text::one_line(&turn.message_text);
        self.line(call, &format!("{at} {on}{:5}{off}  {text}", turn.speaker_type.as_str()))
    }

    fn result(&mut self, call: usize, data: &CallData) -> io::Result<()> {
        self.has_result[call] = true;
        for part in parts(data) {
            self.line(call, &format!("-- {}", text::one_line(&part.to_string())))?;
        }
        Ok(())
    }

    fn message(&mut self, call: usize, message: &ServerMessage, start: Option<Timestamp>) -> io::Result<()> {
        let prefix = self.prefix(call);
        match message {
            ServerMessage::Transcription(turn) => return self.turn(call, turn, start),
            ServerMessage::CallCompleted(event) => return self.result(call, &event.call_data),
            ServerMessage::CallStatus(event) if !event.status.is_ended() => {
                self.console.say(format!("{prefix}the call is now {}", event.status));
            }
            ServerMessage::SubscriptionPending(_) => {
                self.console.say(format!("waiting for the call {}", self.identifiers[call]));
            }
            ServerMessage::SubscriptionConfirmed(confirmed) => self.console.debug(format!(
                "{prefix}following {} ({}), newest event {}",
                confirmed.call_sid, confirmed.status, confirmed.seq
            )),
            ServerMessage::Reconnect(reconnect) => {
                self.console.debug(format!("{prefix}the server is about to close: {}", reconnect.reason));
            }
            ServerMessage::Unknown(kind) => self.console.debug(format!("{prefix}left out a message of type {kind}")),
            ServerMessage::Error(error) => {
                self.console.debug(format!("{prefix}the server said {}: {}", error.code, error.message))
            }
            _ => {}
        }
        Ok(())
    }

    fn ended(&mut self, call: usize, ending: &Ending) -> io::Result<()> {
        match (&ending.reason, ending.status) {
            (EndReason::CallEnded, Some(status)) if !self.has_result[call] => {
                self.line(call, &format!("-- call {status}"))
            }
            // With a single call, its failure is the error of the program.
            (EndReason::Failed(failure), _) if self.several => {
                self.console.warn(format!("{}{}", self.prefix(call), failure.message));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl<W: Write> Sink for PlainWriter<W> {
    fn opened(&mut self, identifier: &Identifier) -> io::Result<()> {
        self.console.say(format!("following {identifier}"));
        self.several |= !self.identifiers.is_empty();
        self.identifiers.push(identifier.clone());
        self.has_result.push(false);
        Ok(())
    }

    fn update(&mut self, call: usize, update: &Update, start: Option<Timestamp>) -> io::Result<()> {
        let prefix = self.prefix(call);
        match update {
            Update::Message(incoming) => self.message(call, &incoming.message, start)?,
            Update::Ended(ending) => self.ended(call, ending)?,
            Update::Ready(_) | Update::Heard => {}
            Update::Quiet { secs } => self.console.debug(format!("{prefix}nothing was heard for {secs} s")),
            Update::Reconnecting { attempt, delay, reason, broke } => {
                let what = if *broke { "connection lost" } else { "no connection yet" };
                let line = format!("{prefix}{what} ({reason}); trying again in {:.1} s", delay.as_secs_f64());
                if *attempt == 1 { self.console.say(line) } else { self.console.debug(line) }
            }
            Update::Resumed { place, proven } => {
                self.console.say(format!("{prefix}connected again{}", describe_resume(place, *proven)));
            }
            Update::Gap(gap) => self.console.warn(format!("{prefix}{}", describe_gap(gap))),
        }
        Ok(())
    }

    fn interrupted(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tells people where a stream was resumed. It says that nothing was missed only if the server has proved it.
pub(crate) fn describe_resume(place: &Place, proven: bool) -> String {
    match (place.call_id, proven) {
        (None, _) => String::new(),
        (Some(_), true) => format!("; resumed after seq {}, nothing missed", place.seq),
        (Some(_), false) => format!("; resumed after seq {}", place.seq),
    }
}

/// Explains a gap to people.
pub(crate) fn describe_gap(gap: &Gap) -> String {
    match gap {
        Gap::CursorInvalid { after } => {
            format!(
                "the server's log of this call has no such place behind seq {after}; the log follows from its start"
            )
        }
        Gap::Hole { expected, found } => {
            format!("event {found} came where {expected} was due; connecting again to get what is missing")
        }
        Gap::Merged { call_id } => {
            format!("this call turned out to be a part of call {call_id}; its log follows from its start")
        }
    }
}

fn color(speaker: Speaker) -> &'static str {
    match speaker {
        Speaker::Agent => "\x1b[36m",
        Speaker::User => "\x1b[32m",
        Speaker::Tool => "\x1b[33m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Incoming;

    fn shown(identifiers: &[&str], messages: &[&str]) -> String {
        let mut bytes = Vec::new();
        let identifiers = identifiers.iter().map(|id| Identifier::parse(id).unwrap()).collect();
        let mut plain = PlainWriter::new(&mut bytes, Console::silent(), identifiers, false, false);
        let start = Timestamp::parse_rfc3339("2026-10-01T14:00:00Z");
        for raw in messages {
            let incoming = Incoming::read((*raw).to_owned()).unwrap();
            plain.update(0, &Update::Message(incoming), start).unwrap();
        }
        String::from_utf8(bytes).unwrap()
    }

    const TURN: &str = r#"{"type":"transcription","conversation_id":null,"call_sid":"a","transcription_id":1,
        "sequence_number":1,"speaker_type":"user","message_text":"two\nlines \u001b[2J\u202e!","timestamp":"2026-10-01T14:01:05Z","seq":1}"#;
    const END: &str = r#"{"type":"call_completed","conversation_id":null,"call_sid":"a","seq":2,
        "call_data":{"status":"failed","failure_reason":"busy\u0007"}}"#;

    #[test]
    fn a_turn_is_one_safe_line() {
        assert_eq!(shown(&["a"], &[TURN]), "01:05 user   two lines \u{fffd}!\n");
    }

    #[test]
    fn several_calls_are_told_apart() {
        assert_eq!(shown(&["a", "b"], &[TURN]), "a | 01:05 user   two lines \u{fffd}!\n");
    }

    #[test]
    fn the_end_says_how() {
        assert_eq!(shown(&["a"], &[END]), "-- call failed; busy\u{fffd}\n");
    }
}
