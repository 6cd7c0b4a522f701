//! Calls: their views, registration and changes, transcripts and events.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::text_enum::text_enum;
use crate::{CallData, CallId, CallStatus, Identifier, OrUnknown, Seq, Speaker, Timestamp};

/// A call, as `/api/v1/calls` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallView {
    /// The id of the call.
    pub call_id: CallId,
    /// The `call_sid` of the call.
    pub call_sid: String,
    /// The provider's conversation id, once known.
    pub conversation_id: Option<String>,
    /// Every identifier that leads to the call, except its id.
    pub identifiers: Vec<String>,
    /// The status of the call.
    pub status: CallStatus,
    /// What the call is about.
    pub subject: Option<String>,
    /// The id of the provider's agent.
    pub agent_id: Option<String>,
    /// Any JSON that was registered with the call.
    pub metadata: Option<Box<RawValue>>,
    /// When the call was registered, or its first webhook was received.
    pub created_at: Timestamp,
    /// When its record last changed.
    pub updated_at: Timestamp,
    /// When the call ended.
    pub call_end_time: Option<Timestamp>,
    /// The seq of its newest event.
    pub seq: Seq,
    /// How many turns the call has.
    pub turns: i64,
    /// Whether a recording is stored.
    pub has_audio: bool,
    /// The result of the call, once it has ended.
    pub call_data: Option<CallData>,
    /// The same as `seq`.
    #[serde(default)]
    pub head: Seq,
    /// When its newest event was appended; `None` while it has none. It shows which calls without an end have been
    /// silent for long.
    #[serde(default)]
    pub last_event_at: Option<Timestamp>,
    /// When the call began, if its result says so.
    #[serde(default)]
    pub call_start_time: Option<Timestamp>,
    /// The length of the call in whole seconds, if its result says so.
    #[serde(default)]
    pub duration_seconds: Option<i64>,
    /// The value for the dynamic variable `callscope_link`, with which a backend links the provider's conversation to
    /// the call. Only the answer to the call's registration contains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// `GET /api/v1/calls`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallList {
    /// The calls of this page, newest first.
    pub calls: Vec<CallView>,
    /// The value of `cursor` for the next page; `None` on the last page.
    pub next_cursor: Option<String>,
}

/// `POST /api/v1/calls`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewCall {
    /// What the call is about: 1 to 200 characters. Without a `call_sid` it becomes a part of the generated one; then
    /// it is 1 to 64 of `A-Za-z0-9._-`.
    pub subject: Option<String>,
    /// The sid; generated if it is absent.
    pub call_sid: Option<Identifier>,
    /// The provider's conversation id.
    pub conversation_id: Option<Identifier>,
    /// The id of the provider's agent.
    pub agent_id: Option<String>,
    /// Any JSON, which is stored with the call.
    pub metadata: Option<Box<RawValue>>,
}

/// `PATCH /api/v1/calls/{id}`. Absent fields stay as they are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallPatch {
    /// A new sid. The old one still leads to the call.
    pub call_sid: Option<Identifier>,
    /// The provider's conversation id.
    pub conversation_id: Option<Identifier>,
    /// Further identifiers, such as a provider's sid.
    pub identifiers: Vec<Identifier>,
    /// The new status. An ended call accepts only `completed` or `failed`.
    pub status: Option<CallStatus>,
    /// What the call is about: 1 to 200 characters.
    pub subject: Option<String>,
    /// The id of the provider's agent.
    pub agent_id: Option<String>,
    /// Any JSON. It replaces the old value.
    pub metadata: Option<Box<RawValue>>,
    /// Whether to merge with another call that already has one of the identifiers, instead of refusing it.
    pub merge: bool,
}

text_enum! {
    /// The source of the turns of a transcript.
    TranscriptSource, "source of a transcript" {
        /// The turns that came in live.
        Live = "live",
        /// The provider's transcript.
        Final = "final",
    }
}

/// `GET /api/v1/calls/{id}/transcript?format=json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TranscriptView {
    /// The id of the call.
    pub call_id: CallId,
    /// The `call_sid` of the call.
    pub call_sid: String,
    /// The provider's conversation id, once known.
    pub conversation_id: Option<String>,
    /// The status of the call.
    pub status: CallStatus,
    /// The source of the turns.
    pub source: OrUnknown<TranscriptSource>,
    /// The turns in their order.
    pub turns: Vec<TurnView>,
}

/// One turn of a [`TranscriptView`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TurnView {
    /// The turn's number in its call.
    pub sequence_number: i64,
    /// The speaker of the turn.
    pub speaker_type: Speaker,
    /// What was said. The text is untrusted.
    pub message_text: String,
    /// When it was said; `None` if the provider does not say when the call began.
    pub timestamp: Option<Timestamp>,
    /// Seconds since the first turn of the call; for the provider's turns, since the start of the call.
    pub offset_seconds: f64,
    /// The event's place in the log; `None` for the provider's turns.
    pub seq: Option<Seq>,
}

/// `GET /api/v1/calls/{id}/events`.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventList {
    /// The events as the messages that the WebSocket sends.
    pub events: Vec<Box<RawValue>>,
    /// The head of the log.
    pub head: Seq,
}
