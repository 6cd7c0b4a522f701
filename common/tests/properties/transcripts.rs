//! A transcript folded of whatever a subscription may bring.

use callscope_common::protocol::{
    CallCompleted, CallStatusChanged, ServerMessage, SubscriptionConfirmed, Transcription, TranscriptionPartial,
};
use callscope_common::transcript::{Applied, Transcript};
use callscope_common::{CallData, CallStatus, Seq, Speaker, Timestamp};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Turn(bool),
    Status(bool),
    Completed(bool),
}

/// What comes in: the next events of the log, some of them again, a partial, a confirmation.
#[derive(Debug, Clone, Copy)]
enum Step {
    Next(usize),
    Back(usize),
    Skip(usize),
    Partial(bool),
    Confirmed,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![6 => any::<bool>().prop_map(Kind::Turn), 1 => any::<bool>().prop_map(Kind::Status), 1 => any::<bool>().prop_map(Kind::Completed)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..5_usize).prop_map(Step::Next),
        3 => (1..9_usize).prop_map(Step::Back),
        1 => (1..3_usize).prop_map(Step::Skip),
        2 => any::<bool>().prop_map(Step::Partial),
        1 => Just(Step::Confirmed),
    ]
}

fn speaker(agent: bool) -> Speaker {
    if agent { Speaker::Agent } else { Speaker::User }
}

fn ended(well: bool) -> CallStatus {
    if well { CallStatus::Completed } else { CallStatus::Failed }
}

fn event(seq: Seq, kind: Kind) -> ServerMessage {
    let (conversation_id, call_sid) = (None, "EL_x_1".to_owned());
    let timestamp = Timestamp::from_unix_secs(seq).unwrap();
    match kind {
        Kind::Turn(agent) => ServerMessage::Transcription(Transcription {
            conversation_id,
            call_sid,
            transcription_id: seq,
            sequence_number: seq,
            speaker_type: speaker(agent),
            message_text: seq.to_string(),
            timestamp,
            seq,
            call_id: None,
            cursor: None,
        }),
        Kind::Status(well) => ServerMessage::CallStatus(CallStatusChanged {
            conversation_id,
            call_sid,
            status: ended(well),
            call_end_time: None,
            seq,
            call_id: None,
            cursor: None,
        }),
        Kind::Completed(well) => {
            let mut call_data = CallData::new(ended(well));
            call_data.cost = Some(seq.into());
            ServerMessage::CallCompleted(CallCompleted {
                conversation_id,
                call_sid,
                call_data,
                seq,
                call_id: None,
                cursor: None,
            })
        }
    }
}

fn partial(agent: bool) -> ServerMessage {
    ServerMessage::TranscriptionPartial(TranscriptionPartial {
        conversation_id: None,
        call_sid: "EL_x_1".into(),
        speaker_type: speaker(agent),
        message_text: "so far".into(),
        timestamp: Timestamp::from_unix_secs(0).unwrap(),
        turn_id: None,
        call_id: None,
    })
}

fn confirmed() -> ServerMessage {
    ServerMessage::SubscriptionConfirmed(SubscriptionConfirmed {
        identifier: "EL_x_1".into(),
        call_sid: "EL_x_1".into(),
        conversation_id: None,
        status: CallStatus::Initiated,
        message: String::new(),
        call_id: uuid::Uuid::nil(),
        seq: 0,
        cursor: None,
    })
}

/// The naive fold: keep what was new, in order, and look at the whole of it in the end.
#[derive(Default)]
struct Naive {
    seen: Vec<(Seq, ServerMessage)>,
    said: Vec<ServerMessage>,
}

impl Naive {
    fn take(&mut self, message: &ServerMessage) -> Applied {
        let last = self.seen.last().map_or(0, |(seq, _)| *seq);
        let applied = match message.seq() {
            Some(seq) if seq <= last => return Applied::Repeat,
            Some(seq) => {
                self.seen.push((seq, message.clone()));
                if seq == last + 1 { Applied::Event } else { Applied::Gap { expected: last + 1 } }
            }
            None if matches!(message, ServerMessage::TranscriptionPartial(_)) => Applied::Partial,
            None => Applied::Other,
        };
        self.said.push(message.clone());
        applied
    }

    fn turns(&self) -> Vec<Seq> {
        let is_turn = |message: &ServerMessage| matches!(message, ServerMessage::Transcription(_));
        self.seen.iter().filter(|(_, message)| is_turn(message)).map(|(seq, _)| *seq).collect()
    }

    fn result(&self) -> Option<Seq> {
        let is_result = |message: &ServerMessage| matches!(message, ServerMessage::CallCompleted(_));
        self.seen.iter().rev().find(|(_, message)| is_result(message)).map(|(seq, _)| *seq)
    }

    fn status(&self) -> Option<CallStatus> {
        self.said.iter().fold(None, |status, message| match message {
            ServerMessage::SubscriptionConfirmed(confirmed) => Some(confirmed.status),
            ServerMessage::CallStatus(changed) => Some(changed.status),
            ServerMessage::CallCompleted(completed) => Some(completed.call_data.status),
            ServerMessage::Transcription(_) if status == Some(CallStatus::Initiated) => Some(CallStatus::InProgress),
            _ => status,
        })
    }

    /// Whose turn is being spoken: the last partial, unless that speaker's turn or the end came behind it.
    fn speaking(&self) -> Option<Speaker> {
        let at = self.said.iter().rposition(|message| matches!(message, ServerMessage::TranscriptionPartial(_)))?;
        let ServerMessage::TranscriptionPartial(partial) = &self.said[at] else { return None };
        let is_over = self.said[at..].iter().any(|message| match message {
            ServerMessage::Transcription(turn) => turn.speaker_type == partial.speaker_type,
            message => matches!(message, ServerMessage::CallCompleted(_)),
        });
        (!is_over).then_some(partial.speaker_type)
    }
}

proptest! {
    #[test]
    fn a_transcript_is_what_a_naive_fold_makes_of_it(
        log in prop::collection::vec(kind(), 1..30),
        steps in prop::collection::vec(step(), 0..30),
    ) {
        let (mut transcript, mut naive) = (Transcript::default(), Naive::default());
        let mut at = 0_usize;
        let mut messages = Vec::new();
        for step in steps {
            match step {
                Step::Next(count) => {
                    let end = (at + count).min(log.len());
                    messages.extend((at..end).map(|i| event(i as Seq + 1, log[i])));
                    at = end;
                }
                Step::Back(count) => at = at.saturating_sub(count),
                Step::Skip(count) => at = (at + count).min(log.len()),
                Step::Partial(agent) => messages.push(partial(agent)),
                Step::Confirmed => messages.push(confirmed()),
            }
        }
        for message in &messages {
            prop_assert_eq!(transcript.apply(message), naive.take(message), "{:?}", message);
        }
        let turns: Vec<Seq> = transcript.turns.iter().map(|turn| turn.seq).collect();
        prop_assert_eq!(turns, naive.turns());
        prop_assert!(transcript.turns.iter().all(|turn| turn.text == turn.seq.to_string()));
        prop_assert_eq!(transcript.status, naive.status());
        let result = transcript.result.as_ref().and_then(|data| data.cost.as_ref()?.as_i64());
        prop_assert_eq!(result, naive.result());
        prop_assert_eq!(transcript.partial.as_ref().map(|partial| partial.speaker_type), naive.speaking());
        prop_assert_eq!(transcript.to_txt().lines().count(), transcript.turns.len());
        // Everything once more, as after a reconnect that lost the cursor: nothing changes.
        let seq = transcript.seq;
        for message in messages.iter().filter(|message| message.seq().is_some()) {
            prop_assert_eq!(transcript.apply(message), Applied::Repeat);
        }
        prop_assert_eq!((transcript.seq, transcript.turns.len()), (seq, naive.turns().len()));
    }
}
