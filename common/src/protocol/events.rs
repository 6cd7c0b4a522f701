//! The events of a call's log as messages, and the interim state of a turn.

use serde::{Deserialize, Serialize};

use crate::{CallData, CallId, CallStatus, Seq, Speaker, Timestamp};

/// See [`ServerMessage::Transcription`](super::ServerMessage::Transcription).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Transcription {
    /// The provider's conversation id, if it was known when the turn came in.
    pub conversation_id: Option<String>,
    /// The call's sid.
    pub call_sid: String,
    /// The id of the turn, which is unique among all calls.
    pub transcription_id: i64,
    /// The number of the turn in its call: 1, 2, 3…
    pub sequence_number: i64,
    /// The speaker of the turn.
    pub speaker_type: Speaker,
    /// What was said.
    pub message_text: String,
    /// When it was said.
    pub timestamp: Timestamp,
    /// The place of the event in the log of its call.
    pub seq: Seq,
    /// The call. Earlier versions stored messages without it; the server adds it when it sends them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<CallId>,
    /// The place behind the event; see [`Cursor`](crate::Cursor). It is the last field, so it is found without parsing
    /// the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// See [`ServerMessage::TranscriptionPartial`](super::ServerMessage::TranscriptionPartial).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TranscriptionPartial {
    /// The provider's conversation id, once known.
    pub conversation_id: Option<String>,
    /// The call's sid.
    pub call_sid: String,
    /// Who is speaking.
    pub speaker_type: Speaker,
    /// What was said so far.
    pub message_text: String,
    /// When it was said.
    pub timestamp: Timestamp,
    /// The turn that this text is a part of.
    pub turn_id: Option<String>,
    /// The call that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<CallId>,
}

/// See [`ServerMessage::CallStatus`](super::ServerMessage::CallStatus).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallStatusChanged {
    /// The provider's conversation id, if it was known.
    pub conversation_id: Option<String>,
    /// The call's sid.
    pub call_sid: String,
    /// The new status.
    pub status: CallStatus,
    /// When the call ended.
    pub call_end_time: Option<Timestamp>,
    /// The place of the event in the log of its call.
    pub seq: Seq,
    /// The call. Earlier versions stored messages without it; the server adds it when it sends them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<CallId>,
    /// The place behind the event; see [`Cursor`](crate::Cursor). It is the last field, so it is found without parsing
    /// the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// See [`ServerMessage::CallCompleted`](super::ServerMessage::CallCompleted).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallCompleted {
    /// The provider's conversation id, if it was known.
    pub conversation_id: Option<String>,
    /// The call's sid.
    pub call_sid: String,
    /// The call's result.
    pub call_data: CallData,
    /// The place of the event in the log of its call.
    pub seq: Seq,
    /// The call. Earlier versions stored messages without it; the server adds it when it sends them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<CallId>,
    /// The place behind the event; see [`Cursor`](crate::Cursor). It is the last field, so it is found without parsing
    /// the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
