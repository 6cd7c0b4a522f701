//! Calls: their views, registration and changes, transcripts and events.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::text_enum::text_enum;
use crate::{CallData, CallId, CallStatus, Identifier, OrUnknown, Seq, Speaker, Timestamp};

/// A call, as `/api/v1/calls` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallView {
    /// The call's own id.
    pub call_id: CallId,
    /// The `call_sid` of the call.
    pub call_sid: String,
    /// The provider's conversation id, once known.
    pub conversation_id: Option<String>,
    /// Every identifier it can be asked for by, but the call id.
    pub identifiers: Vec<String>,
    /// Where it stands.
    pub status: CallStatus,
    /// What it is about.
    pub subject: Option<String>,
    /// The provider's agent.
    pub agent_id: Option<String>,
    /// What was registered with it.
    pub metadata: Option<Box<RawValue>>,
    /// When the server first heard of it.
    pub created_at: Timestamp,
    /// When its record last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub call_end_time: Option<Timestamp>,
    /// Seq of its newest event.
    pub seq: Seq,
    /// How many turns it has.
    pub turns: i64,
    /// Whether a recording is kept.
    pub has_audio: bool,
    /// Its result, once it ended.
    pub call_data: Option<CallData>,
    /// Seq of its newest event; the same as `seq`.
    #[serde(default)]
    pub head: Seq,
    /// When its newest event was appended; `None` while it has none. It shows a call without an end that has been
    /// silent for long.
    #[serde(default)]
    pub last_event_at: Option<Timestamp>,
    /// When it began, where its result tells.
    #[serde(default)]
    pub call_start_time: Option<Timestamp>,
    /// Its length in whole seconds, where its result tells.
    #[serde(default)]
    pub duration_seconds: Option<i64>,
    /// The value that the call's own backend passes on as the dynamic variable `callscope_link`, so that the
    /// conversation is linked to the call. Only the answer to its registration has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// `GET /api/v1/calls`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallList {
    /// The calls of this page, newest first.
    pub calls: Vec<CallView>,
    /// Asks for the next page; `None` on the last.
    pub next_cursor: Option<String>,
}

/// `POST /api/v1/calls`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewCall {
    /// 1 to 200 characters. Without a `call_sid` it goes into the one that is made up: then 1 to 64 of `A-Za-z0-9._-`.
    pub subject: Option<String>,
    /// The sid; made up where there is none.
    pub call_sid: Option<Identifier>,
    /// The provider's conversation id.
    pub conversation_id: Option<Identifier>,
    /// The provider's agent.
    pub agent_id: Option<String>,
    /// Any JSON, kept with the call.
    pub metadata: Option<Box<RawValue>>,
}

/// `PATCH /api/v1/calls/{id}`: what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallPatch {
    /// Another sid; the old one goes on naming the call.
    pub call_sid: Option<Identifier>,
    /// The provider's conversation id.
    pub conversation_id: Option<Identifier>,
    /// Further identifiers, such as a provider's sid.
    pub identifiers: Vec<Identifier>,
    /// The status; an ended call takes no status but an end.
    pub status: Option<CallStatus>,
    /// What it is about: 1 to 200 characters.
    pub subject: Option<String>,
    /// The provider's agent.
    pub agent_id: Option<String>,
    /// Any JSON, replacing what was there.
    pub metadata: Option<Box<RawValue>>,
    /// Whether an identifier of another call means that both are one.
    pub merge: bool,
}

text_enum! {
    /// Where the turns of a transcript are from.
    TranscriptSource, "source of a transcript" {
        /// The turns as they came.
        Live = "live",
        /// The provider's transcript.
        Final = "final",
    }
}

/// `GET /api/v1/calls/{id}/transcript?format=json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TranscriptView {
    /// The call's own id.
    pub call_id: CallId,
    /// The `call_sid` of the call.
    pub call_sid: String,
    /// The provider's conversation id, once known.
    pub conversation_id: Option<String>,
    /// Where the call stands.
    pub status: CallStatus,
    /// Where the turns are from.
    pub source: OrUnknown<TranscriptSource>,
    /// What was said.
    pub turns: Vec<TurnView>,
}

/// One turn of a [`TranscriptView`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TurnView {
    /// The turn's number in its call.
    pub sequence_number: i64,
    /// The speaker of the turn.
    pub speaker_type: Speaker,
    /// What was said, as it came: untrusted.
    pub message_text: String,
    /// When; `None` where the provider does not say when the call began.
    pub timestamp: Option<Timestamp>,
    /// Seconds since the call's first turn, for the provider's turns since the call's start.
    pub offset_seconds: f64,
    /// The event's place in the log; `None` for the provider's turns.
    pub seq: Option<Seq>,
}

/// `GET /api/v1/calls/{id}/events`.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventList {
    /// The messages as the WebSocket sends them.
    pub events: Vec<Box<RawValue>>,
    /// The log's head.
    pub head: Seq,
}
