//! The events of a call, folded into its turns.

use std::fmt::Write as _;

use crate::protocol::{ServerMessage, Transcription, TranscriptionPartial};
use crate::{CallData, CallStatus, Seq, Speaker, Timestamp, text};

/// A call as its events describe it.
///
/// Pass the messages of a subscription to [`Transcript::apply`]. Events that were seen before change nothing.
#[derive(Debug, Default, Clone)]
pub struct Transcript {
    /// The seq of the newest event that was applied.
    pub seq: Seq,
    /// The turns, in the order of the log.
    pub turns: Vec<Turn>,
    /// The turn that is being spoken, as far as it is known.
    pub partial: Option<TranscriptionPartial>,
    /// The status, once an event or a confirmation has named it.
    pub status: Option<CallStatus>,
    /// The result, once the call has ended. A later result replaces it.
    pub result: Option<CallData>,
}

/// One turn of a [`Transcript`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The place of the event in the log.
    pub seq: Seq,
    /// The number of the turn in its call.
    pub number: i64,
    /// The speaker of the turn.
    pub speaker: Speaker,
    /// What was said. The text is untrusted.
    pub text: String,
    /// When it was said.
    pub at: Timestamp,
}

/// The effect of a message on a [`Transcript`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The next event was applied.
    Event,
    /// The event was seen before and changed nothing.
    Repeat,
    /// Events between `expected` and the message's seq are missing. The message was applied nevertheless.
    Gap {
        /// The seq of the first missing event.
        expected: Seq,
    },
    /// The turn that is being spoken changed.
    Partial,
    /// The message is not an event of the log.
    Other,
}

impl Transcript {
    /// Applies a message.
    pub fn apply(&mut self, message: &ServerMessage) -> Applied {
        let Some(seq) = message.seq() else {
            return match message {
                ServerMessage::TranscriptionPartial(partial) => {
                    self.partial = Some(partial.clone());
                    Applied::Partial
                }
                ServerMessage::SubscriptionConfirmed(confirmed) => {
                    self.status = Some(confirmed.status);
                    Applied::Other
                }
                _ => Applied::Other,
            };
        };
        if seq <= self.seq {
            return Applied::Repeat;
        }
        let expected = self.seq + 1;
        self.seq = seq;
        match message {
            ServerMessage::Transcription(event) => self.push(event),
            ServerMessage::CallStatus(event) => self.status = Some(event.status),
            ServerMessage::CallCompleted(event) => {
                self.partial = None;
                self.status = Some(event.call_data.status);
                self.result = Some(event.call_data.clone());
            }
            _ => {}
        }
        if seq == expected { Applied::Event } else { Applied::Gap { expected } }
    }

    fn push(&mut self, event: &Transcription) {
        if self.partial.as_ref().is_some_and(|partial| partial.speaker_type == event.speaker_type) {
            self.partial = None;
        }
        if self.status == Some(CallStatus::Initiated) {
            self.status = Some(CallStatus::InProgress);
        }
        self.turns.push(Turn {
            seq: event.seq,
            number: event.sequence_number,
            speaker: event.speaker_type,
            text: event.message_text.clone(),
            at: event.timestamp,
        });
    }

    /// Returns when the first turn was spoken. Other times are shown relative to it, and not to the provider's start in
    /// the result, which may come from another clock.
    #[must_use]
    pub fn start(&self) -> Option<Timestamp> {
        self.turns.first().map(|turn| turn.at)
    }

    /// Returns the turns as plain text that is safe to show, one a line: `[MM:SS] speaker: text`.
    #[must_use]
    pub fn to_txt(&self) -> String {
        let start = self.start();
        let mut txt = String::new();
        for turn in &self.turns {
            let offset = start.map_or(0.0, |start| turn.at.secs_since(start));
            let _ = writeln!(txt, "[{}] {}: {}", clock(offset), turn.speaker, text::one_line(&turn.text));
        }
        txt
    }
}

/// Formats seconds into a call as `MM:SS`, or as `H:MM:SS` from an hour on. A time before the start is `00:00`.
#[must_use]
pub fn clock(secs: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let secs = secs.max(0.0) as u64;
    let (hours, minutes, secs) = (secs / 3600, secs / 60 % 60, secs % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{secs:02}") } else { format!("{minutes:02}:{secs:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{CallCompleted, CallStatusChanged};

    fn turn(seq: Seq, text: &str) -> ServerMessage {
        ServerMessage::Transcription(Transcription {
            conversation_id: None,
            call_sid: "EL_a_1".into(),
            transcription_id: seq,
            sequence_number: seq,
            speaker_type: Speaker::Agent,
            message_text: text.into(),
            timestamp: Timestamp::from_unix_secs(1_000 + seq * 4).unwrap(),
            seq,
            call_id: None,
            cursor: None,
        })
    }

    #[test]
    fn repeats_change_nothing_and_gaps_are_named() {
        let mut transcript = Transcript::default();
        assert_eq!(transcript.apply(&turn(1, "a")), Applied::Event);
        assert_eq!(transcript.apply(&turn(1, "a")), Applied::Repeat);
        assert_eq!(transcript.apply(&turn(4, "d")), Applied::Gap { expected: 2 });
        assert_eq!(transcript.turns.len(), 2);
        assert_eq!(transcript.to_txt(), "[00:00] agent: a\n[00:12] agent: d\n");
    }

    #[test]
    fn the_end_brings_status_and_result() {
        let mut transcript = Transcript::default();
        transcript.apply(&turn(1, "\x1b[2Jhi"));
        transcript.apply(&ServerMessage::CallStatus(CallStatusChanged {
            conversation_id: None,
            call_sid: "EL_a_1".into(),
            status: CallStatus::Completed,
            call_end_time: None,
            seq: 2,
            call_id: None,
            cursor: None,
        }));
        transcript.apply(&ServerMessage::CallCompleted(CallCompleted {
            conversation_id: None,
            call_sid: "EL_a_1".into(),
            call_data: CallData::new(CallStatus::Completed),
            seq: 3,
            call_id: None,
            cursor: None,
        }));
        assert_eq!(transcript.status, Some(CallStatus::Completed));
        assert!(transcript.result.is_some());
        assert_eq!(transcript.to_txt(), "[00:00] agent: \u{fffd}hi\n");
    }

    #[test]
    fn the_clock_shows_hours_only_when_there_are_any() {
        assert_eq!(clock(-3.0), "00:00");
        assert_eq!(clock(61.9), "01:01");
        assert_eq!(clock(3_725.0), "1:02:05");
    }
}
