//! [`Ledger`]: the calls of one batch in memory, and the events that the batch appends to their logs.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use callscope_common::cursor::EventTag;
use callscope_common::event::EventKind;
use callscope_common::protocol::{CallCompleted, CallStatusChanged, ServerMessage, Transcription};
use callscope_common::{CallData, CallId, CallStatus, Cursor, Identifier, Seq, Speaker, Timestamp};
use uuid::Uuid;

use super::{
    Answer, Call, DedupHash, EarlierDelivery, NewEvent, NewResult, Notification, Operation, Outcome, Receipt,
    RenderReceipt, RowChange, Transcript, Writes,
};

/// What happens to a webhook that names no known call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownCalls {
    /// The call is created.
    Create,
    /// The webhook is refused.
    Reject,
}

/// The calls of one batch in memory.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// The time that is stamped on everything that the batch changes.
    pub now: Timestamp,
    pub unknown_calls: UnknownCalls,
    render: RenderReceipt,
    pub calls: HashMap<CallId, Call>,
    /// The calls that identifiers lead to. Each of these calls is in `calls`.
    pub names: HashMap<Identifier, CallId>,
    /// Stored sids that start with a prefix of this batch, and sids that this batch generated.
    pub taken_sids: HashSet<String>,
    /// The deliveries that one of this batch may repeat, by each of their hashes.
    pub earlier_deliveries: HashMap<DedupHash, EarlierDelivery>,
    /// Whether an earlier attempt at this batch may have been committed.
    pub may_be_committed: bool,
    /// Calls that are older than this may have turns that were stored under
    /// [`turn_hash_without_speaker`](super::turn_hash_without_speaker).
    pub turn_ids_without_speaker_before: Timestamp,
    /// The answers to those deliveries of this batch that an earlier attempt committed, by delivery id.
    pub committed_answers: HashMap<Uuid, Answer>,
    /// Unused ids for the turns that this batch appends.
    pub transcription_ids: std::vec::IntoIter<i64>,
    pub writes: Writes,
}

/// Why an operation could not be applied.
#[derive(Debug)]
pub(crate) enum ApplyError {
    /// The operation states that these records are one call. They must be merged before it is applied, and the
    /// transaction must contain no other operation.
    NeedsMerge(Vec<CallId>),
    /// More turns are appended than there are `transcription_ids`, which is a bug in [`Operation::max_turns`].
    OutOfTranscriptionIds,
}

impl Ledger {
    /// Creates an empty ledger. `render` makes the answers to webhooks.
    pub fn new(now: Timestamp, unknown_calls: UnknownCalls, render: RenderReceipt) -> Self {
        Self {
            now,
            unknown_calls,
            render,
            calls: HashMap::new(),
            names: HashMap::new(),
            taken_sids: HashSet::new(),
            earlier_deliveries: HashMap::new(),
            may_be_committed: false,
            turn_ids_without_speaker_before: now,
            committed_answers: HashMap::new(),
            transcription_ids: Vec::new().into_iter(),
            writes: Writes::default(),
        }
    }

    /// Applies one operation.
    ///
    /// # Errors
    /// Returns an [`ApplyError`]. The ledger may then be partly changed.
    pub fn apply(&mut self, operation: &Operation) -> Result<Outcome, ApplyError> {
        match operation {
            Operation::Deliver(delivery) => self.deliver(delivery).map(Outcome::Answered),
            Operation::Register(register) => Ok(self.register(register)),
            Operation::Patch(patch) => self.patch(patch),
            Operation::Delete(delete) => Ok(self.delete(delete)),
        }
    }

    pub(super) fn render(&self, receipt: &Receipt<'_>) -> Answer {
        (self.render)(receipt)
    }

    pub fn call(&mut self, call_id: CallId) -> &mut Call {
        // The ids come from `names`, which only points to calls that were loaded or created.
        self.calls.get_mut(&call_id).expect("a named call is loaded")
    }

    /// Appends a turn and returns its id, number and seq.
    pub(super) fn append_turn(
        &mut self,
        call_id: CallId,
        (speaker, text, at): (Speaker, &str, Timestamp),
        delivery_id: Option<Uuid>,
    ) -> Result<(i64, i64, Seq), ApplyError> {
        let transcription_id = self.transcription_ids.next().ok_or(ApplyError::OutOfTranscriptionIds)?;
        let call = self.call(call_id);
        call.turns += 1;
        if call.status == CallStatus::Initiated {
            call.status = CallStatus::InProgress;
            call.row_change = RowChange::All;
        }
        let (number, seq) = (call.turns, call.head + 1);
        let message = ServerMessage::Transcription(Transcription {
            conversation_id: call.conversation_id.clone(),
            call_sid: call.call_sid.clone(),
            transcription_id,
            sequence_number: number,
            speaker_type: speaker,
            message_text: text.to_owned(),
            timestamp: at,
            seq,
            call_id: Some(call_id),
            cursor: Some(draw_cursor(call_id, seq)),
        });
        self.append(call_id, EventKind::Transcription, &message, delivery_id);
        Ok((transcription_id, number, seq))
    }

    pub(super) fn append_status(&mut self, call_id: CallId, status: CallStatus, delivery_id: Option<Uuid>) {
        let call = self.call(call_id);
        call.status = status;
        call.row_change = RowChange::All;
        let seq = call.head + 1;
        let message = ServerMessage::CallStatus(CallStatusChanged {
            conversation_id: call.conversation_id.clone(),
            call_sid: call.call_sid.clone(),
            status,
            call_end_time: call.end_time,
            seq,
            call_id: Some(call_id),
            cursor: Some(draw_cursor(call_id, seq)),
        });
        self.append(call_id, EventKind::CallStatus, &message, delivery_id);
    }

    pub(super) fn append_completed(
        &mut self,
        call_id: CallId,
        data: CallData,
        transcript: Transcript,
        delivery_id: Option<Uuid>,
    ) {
        let call = self.call(call_id);
        let stored: Arc<str> = serde_json::to_string(&data).expect("call data is JSON").into();
        call.result = Some(Arc::clone(&stored));
        call.row_change = RowChange::All;
        let seq = call.head + 1;
        let message = ServerMessage::CallCompleted(CallCompleted {
            conversation_id: call.conversation_id.clone(),
            call_sid: call.call_sid.clone(),
            call_data: data,
            seq,
            call_id: Some(call_id),
            cursor: Some(draw_cursor(call_id, seq)),
        });
        self.append(call_id, EventKind::CallCompleted, &message, delivery_id);
        self.writes.results.push(NewResult { call_id, call_data: stored, transcript });
    }

    fn append(&mut self, call_id: CallId, kind: EventKind, message: &ServerMessage, delivery_id: Option<Uuid>) {
        let frame: Arc<str> = serde_json::to_string(message).expect("a message is JSON").into();
        let now = self.now;
        let call = self.call(call_id);
        call.head += 1;
        call.updated_at = now;
        call.row_change = call.row_change.max(RowChange::Head);
        let seq = call.head;
        match self.writes.notifications.last_mut() {
            Some(Notification::EventsAppended { call_id: last, events, .. }) if *last == call_id => {
                events.push((kind, Arc::clone(&frame)));
            }
            _ => self.writes.notifications.push(Notification::EventsAppended {
                call_id,
                first: seq,
                events: vec![(kind, Arc::clone(&frame))],
            }),
        }
        self.writes.events.push(NewEvent { call_id, seq, kind, frame, delivery_id });
    }
}

/// Returns the cursor after an event that is appended now. Its tag is random: if the database is restored to an older
/// state and the event is appended again, it is another event and has another cursor.
fn draw_cursor(call_id: CallId, seq: Seq) -> String {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    let mut text = String::with_capacity(Cursor::MAX_LEN);
    // A UUID has fixed bits, for its version and variant. They are at different places in the two halves, so each bit
    // of the tag is random.
    let _ = write!(text, "{}", Cursor::behind(call_id, seq, Some(EventTag(high ^ low))));
    text
}
