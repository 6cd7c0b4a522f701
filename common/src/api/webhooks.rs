//! The answers to webhooks. A refused webhook is answered with an [`ErrorBody`](super::ErrorBody).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{CallStatus, OrUnknown, Seq};

/// The answer to a turn. A partial turn, which is not stored, gets no numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TurnAnswer<'a> {
    /// Always `success`.
    pub status: Cow<'a, str>,
    /// What was done, for people.
    pub message: Cow<'a, str>,
    /// The id of the turn, which is unique among all calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcription_id: Option<i64>,
    /// The number of the turn in its call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence_number: Option<i64>,
    /// The place of its event in the log of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// The `call_sid` of the call.
    pub call_sid: Cow<'a, str>,
}

/// The answer to a post-call webhook.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PostCallAnswer<'a> {
    /// Always `success`.
    pub status: Cow<'a, str>,
    /// What was done, for people.
    pub message: Cow<'a, str>,
    /// The provider's conversation id.
    pub conversation_id: Option<Cow<'a, str>>,
    /// The `call_sid` of the call, if there is one.
    pub call_sid: Option<Cow<'a, str>>,
    /// The status of the call, if there is one.
    pub call_status: Option<OrUnknown<CallStatus>>,
}
