//! The rules of the log, without a database: what an operation does to the calls it names.
//!
//! [`store::writer`](crate::store::writer) loads the rows a batch of operations names into a [`Ledger`], applies the operations in order,
//! and writes out what came of it. Everything here is a pure function of what was loaded, so that one set of rules holds
//! for both engines and can be tried without either.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use callscope_common::cursor::EventTag;
use callscope_common::event::EventKind;
use callscope_common::protocol::{CallCompleted, CallStatusChanged, ServerMessage, Transcription};
use callscope_common::{CallData, CallId, CallStatus, Cursor, Identifier, Seq, Speaker, Timestamp};
use uuid::Uuid;

use super::operation::*;
use crate::store::deliveries::DeliveryRange;
use crate::store::nodes::Heartbeat;

/// What to do with a webhook for a call nobody registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownCalls {
    /// Make the call.
    Create,
    /// Answer 404.
    Reject,
}

/// A call's row, and what the batch did to it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The call's own id.
    pub call_id: CallId,
    /// Its sid.
    pub call_sid: String,
    /// Whether the server made the sid up.
    pub sid_made_up: bool,
    /// The provider's id.
    pub conversation_id: Option<String>,
    /// Where it stands.
    pub status: CallStatus,
    /// What it is about.
    pub subject: Option<String>,
    /// The provider's agent.
    pub agent_id: Option<String>,
    /// JSON, as registered.
    pub metadata: Option<String>,
    /// Seq of the newest event.
    pub head: Seq,
    /// Number of the newest turn.
    pub turns: i64,
    /// Whether any turn came in live.
    pub live: bool,
    /// Whether a recording is kept.
    pub has_audio: bool,
    /// When the server first heard of it.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub end_time: Option<Timestamp>,
    /// Where its result stands, if it has one: JSON of [`CallData`].
    pub result: Option<Arc<str>>,
    /// Whether the batch made it.
    pub(crate) is_new: bool,
    /// What the batch changed of it.
    pub(crate) row_change: RowChange,
}

/// How much of a call's row a batch has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RowChange {
    None,
    /// Only what every turn changes: `head`, `turns`, `live`, `updated_at`. None of it stands in an index.
    Head,
    All,
}

/// An event the batch appends.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Whose log.
    pub call_id: CallId,
    /// Its place there.
    pub seq: Seq,
    /// What it is.
    pub kind: EventKind,
    /// The WebSocket message.
    pub frame: Arc<str>,
    /// What caused it.
    pub delivery_id: Option<Uuid>,
}

/// What followers have to hear of, once it is committed.
#[derive(Debug, Clone)]
pub enum Notification {
    /// Events were appended, in order and without holes from `first`.
    EventsAppended {
        /// Whose log.
        call_id: CallId,
        /// Seq of the first.
        first: Seq,
        /// Kind and message of each.
        events: Vec<(EventKind, Arc<str>)>,
    },
    /// The log reaches this far; the events are to be read.
    HeadMoved {
        /// Whose log.
        call_id: CallId,
        /// Seq of the newest event.
        head: Seq,
        /// Whether the call is over.
        ended: bool,
    },
    /// A turn as it stands so far.
    PartialTurn {
        /// Whose.
        call_id: CallId,
        /// The message.
        frame: Arc<str>,
    },
    /// An identifier names a call from now on.
    IdentifierAssigned {
        /// The identifier.
        identifier: Identifier,
    },
    /// A record was absorbed.
    Merged {
        /// The absorbed one.
        from: CallId,
        /// The surviving one.
        into: CallId,
    },
    /// A call was deleted.
    Deleted {
        /// Which.
        call_id: CallId,
    },
}

/// Everything a batch writes beside the calls themselves.
#[derive(Debug, Default)]
pub struct Writes {
    pub(crate) names: Vec<(Identifier, CallId, NameKind)>,
    pub(crate) events: Vec<NewEvent>,
    pub(crate) results: Vec<NewResult>,
    pub(crate) audio: Vec<NewAudio>,
    pub(crate) deliveries: Vec<NewDelivery>,
    pub(crate) merges: Vec<Merge>,
    pub(crate) deleted: Vec<CallId>,
    pub(crate) heartbeats: Vec<Arc<Heartbeat>>,
    pub(crate) left: Vec<String>,
    pub(crate) stripped: Vec<DeliveryRange>,
    /// For the followers, in the order of the log.
    pub notifications: Vec<Notification>,
}

/// The calls of one batch, in memory.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) now: Timestamp,
    pub(crate) unknown_calls: UnknownCalls,
    pub(crate) calls: HashMap<CallId, Call>,
    pub(crate) names: HashMap<Identifier, CallId>,
    pub(crate) taken_sids: HashSet<String>,
    pub(crate) earlier: HashMap<DedupHash, EarlierDelivery>,
    /// Whether the batch was tried before, and may have been committed.
    pub(crate) may_be_committed: bool,
    /// Before this time turns were kept by their `turn_id` alone, whoever spoke.
    pub(crate) turn_ids_without_speaker_before: Timestamp,
    /// Deliveries of this batch that an earlier try committed, and what they were answered.
    pub(crate) committed: HashMap<Uuid, Answer>,
    pub(crate) transcription_ids: std::vec::IntoIter<i64>,
    pub(crate) writes: Writes,
}

/// Why an operation could not be applied.
#[derive(Debug)]
pub enum ApplyError {
    /// It says that these records are one call: they must be merged first, in a transaction that starts with it.
    NeedsMerge(Vec<CallId>),
    /// More turns than ids were drawn for: a rule drew too few.
    OutOfTurnIds,
}

impl Ledger {
    /// Nothing loaded yet. `now` stamps what the batch makes.
    #[must_use]
    pub fn new(now: Timestamp, unknown_calls: UnknownCalls) -> Self {
        Self {
            now,
            unknown_calls,
            calls: HashMap::new(),
            names: HashMap::new(),
            taken_sids: HashSet::new(),
            earlier: HashMap::new(),
            may_be_committed: false,
            turn_ids_without_speaker_before: now,
            committed: HashMap::new(),
            transcription_ids: Vec::new().into_iter(),
            writes: Writes::default(),
        }
    }

    /// Applies one operation and says what it came to.
    ///
    /// # Errors
    /// [`ApplyError`]; the ledger is then half changed and must be dropped.
    pub fn apply(&mut self, op: &Operation) -> Result<Outcome, ApplyError> {
        match op {
            Operation::Deliver(delivery) => self.deliver(delivery).map(Outcome::Answered),
            Operation::Register(register) => self.register(register),
            Operation::Patch(patch) => self.patch(patch),
            Operation::Delete(delete) => Ok(self.delete(delete)),
            Operation::Heartbeat(heartbeat) => Ok(self.heartbeat(heartbeat)),
            Operation::Deregister(node) => {
                self.writes.left.push(node.clone());
                Ok(Outcome::Noted)
            }
            Operation::StripDeliveries(range) => {
                self.writes.stripped.push(*range);
                Ok(Outcome::Noted)
            }
        }
    }

    fn heartbeat(&mut self, heartbeat: &Arc<Heartbeat>) -> Outcome {
        if let Some((call_id, frame)) = &heartbeat.probe {
            self.writes.notifications.push(Notification::PartialTurn { call_id: *call_id, frame: Arc::clone(frame) });
        }
        self.writes.heartbeats.push(Arc::clone(heartbeat));
        Outcome::Noted
    }

    /// What the followers have to hear.
    pub(crate) fn into_notifications(self) -> Vec<Notification> {
        self.writes.notifications
    }

    pub(crate) fn call(&mut self, call_id: CallId) -> &mut Call {
        // Ids come from `names`, which only ever points to calls that were loaded or made.
        self.calls.get_mut(&call_id).expect("a named call is loaded")
    }

    /// Appends a turn and returns its id, number and seq.
    pub(crate) fn append_turn(
        &mut self,
        call_id: CallId,
        (speaker, text, at): (Speaker, &str, Timestamp),
        delivery_id: Option<Uuid>,
    ) -> Result<(i64, i64, Seq), ApplyError> {
        let transcription_id = self.transcription_ids.next().ok_or(ApplyError::OutOfTurnIds)?;
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

    pub(crate) fn append_status(&mut self, call_id: CallId, status: CallStatus, delivery_id: Option<Uuid>) {
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

    pub(crate) fn append_completed(
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

/// The cursor behind an event that is appended now. Its tag is drawn and not computed: an event that is appended again after the
/// database was restored to an older state is another event, even where it says the same.
fn draw_cursor(call_id: CallId, seq: Seq) -> String {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    // The bits of version and variant, which are not random, lie at different places in the two halves.
    let mut text = String::with_capacity(Cursor::MAX_LEN);
    let _ = write!(text, "{}", Cursor::behind(call_id, seq, Some(EventTag(high ^ low.rotate_left(32)))));
    text
}
