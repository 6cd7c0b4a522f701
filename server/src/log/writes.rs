//! The rows that a batch writes beside those of its calls.

use std::sync::Arc;

use callscope_common::api::Verdict;
use callscope_common::event::EventKind;
use callscope_common::{CallId, Identifier, Seq};
use uuid::Uuid;

use super::{Answer, DedupHash, NameKind, Notification};

/// The rows that a batch writes beside those of its calls, and its notifications.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    pub names: Vec<NewName>,
    pub events: Vec<NewEvent>,
    pub results: Vec<NewResult>,
    pub audio: Vec<NewAudio>,
    /// In the order of the operations.
    pub deliveries: Vec<NewDelivery>,
    pub merges: Vec<Merge>,
    pub deleted: Vec<CallId>,
    /// In the order of the log.
    pub notifications: Vec<Notification>,
}

/// A name that a call gets.
pub(crate) type NewName = (Identifier, CallId, NameKind);

/// An event to append.
#[derive(Debug, Clone)]
pub(crate) struct NewEvent {
    pub call_id: CallId,
    pub seq: Seq,
    pub kind: EventKind,
    /// The WebSocket message.
    pub frame: Arc<str>,
    /// The delivery that caused the event.
    pub delivery_id: Option<Uuid>,
}

/// What is stored of a delivery beside the fields of the [`Delivery`](super::Delivery) itself.
#[derive(Debug)]
pub(crate) struct NewDelivery {
    pub delivery_id: Uuid,
    pub verdict: Verdict,
    /// Why it had no effect.
    pub reason: Option<String>,
    pub dedup_hash: Option<DedupHash>,
    pub idempotency_key: Option<DedupHash>,
    pub call_id: Option<CallId>,
    pub duplicate_of: Option<Uuid>,
    /// Whether the body is stored. A repeat with equal bytes stores none.
    pub keep_body: bool,
    pub answer: Answer,
}

/// A result to store.
#[derive(Debug)]
pub(crate) struct NewResult {
    pub call_id: CallId,
    /// JSON of [`CallData`](callscope_common::CallData).
    pub call_data: Arc<str>,
    pub transcript: Transcript,
}

/// What happens to the provider's transcript when a result is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Transcript {
    Keep,
    /// It is replaced by this one, or removed.
    Replace(Option<String>),
}

/// A recording to store.
#[derive(Debug)]
pub(crate) struct NewAudio {
    pub call_id: CallId,
    pub content_type: &'static str,
    /// The delivery that holds the bytes.
    pub delivery_id: Uuid,
}

/// A merge to write.
#[derive(Debug)]
pub(crate) struct Merge {
    pub from: CallId,
    pub into: CallId,
    pub moves_audio: bool,
}
