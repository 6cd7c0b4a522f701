//! A call record in the memory of a batch.

use std::sync::Arc;

use callscope_common::{CallId, CallStatus, Seq, Timestamp};

/// A row of `calls`, and which part of it the batch has changed.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub call_id: CallId,
    pub call_sid: String,
    /// Whether the server generated the sid; the first one that a webhook states then replaces it.
    pub sid_made_up: bool,
    pub conversation_id: Option<String>,
    pub status: CallStatus,
    pub subject: Option<String>,
    pub agent_id: Option<String>,
    /// JSON as it was registered.
    pub metadata: Option<String>,
    /// The seq of the newest event.
    pub head: Seq,
    /// The number of the newest turn.
    pub turns: i64,
    /// Whether any turn arrived before the call's result.
    pub live: bool,
    pub has_audio: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub end_time: Option<Timestamp>,
    /// JSON of [`CallData`](callscope_common::CallData), loaded only for operations that need it.
    pub result: Option<Arc<str>>,
    /// Whether this batch creates the row.
    pub is_new: bool,
    pub row_change: RowChange,
}

/// How much of a call's row a batch has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RowChange {
    None,
    /// Only the columns that every turn changes: `head`, `turns`, `live` and `updated_at`. None of them is indexed.
    Head,
    All,
}
