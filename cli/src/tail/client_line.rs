//! The lines that this program adds to the messages of the server in NDJSON, as they are written and read back.

use std::time::Duration;

use callscope_common::{CallId, CallStatus, Identifier, Seq};
use serde::{Deserialize, Serialize};

use crate::exit::Failure;
use crate::stream::{CursorText, EndReason, Ending, Gap, Place, Update};

/// The version of these lines. Later programs may add fields and types under one version, but never change the meaning
/// of those that exist.
const VERSION: u32 = 1;

/// What happened to the connection.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ClientLine {
    Ready {
        version: Option<u32>,
        identifier: Option<String>,
        after: Seq,
        call_id: Option<CallId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<CursorText>,
    },
    Resumed {
        identifier: Option<String>,
        after: Seq,
        call_id: Option<CallId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<CursorText>,
        // Earlier versions claimed without proof that nothing was missed, so their lines have no such field.
        #[serde(default)]
        proven: bool,
    },
    Reconnecting {
        identifier: Option<String>,
        attempt: u32,
        after_ms: u64,
        reason: String,
    },
    Gap {
        identifier: Option<String>,
        #[serde(flatten)]
        gap: Gap,
    },
    End {
        identifier: Option<String>,
        reason: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        status: Option<CallStatus>,
        seq: Seq,
        call_id: Option<CallId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<CursorText>,
    },
}

/// The reason of an end that was not the stream's: the user left the tail, but the call went on.
const INTERRUPTED: &str = "interrupted";

impl ClientLine {
    /// Returns the line for an update; `None` for a message, and for a silent connection, which only views show.
    pub(crate) fn new(identifier: &Identifier, update: &Update) -> Option<Self> {
        let identifier = Some(identifier.to_string());
        Some(match update {
            Update::Message(_) | Update::Quiet { .. } | Update::Heard => return None,
            Update::Ready(Place { seq: after, call_id, cursor }) => {
                Self::Ready { version: Some(VERSION), identifier, after: *after, call_id: *call_id, cursor: *cursor }
            }
            Update::Resumed { place: Place { seq: after, call_id, cursor }, proven } => {
                Self::Resumed { identifier, after: *after, call_id: *call_id, cursor: *cursor, proven: *proven }
            }
            Update::Reconnecting { attempt, delay, reason, .. } => {
                let after_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                Self::Reconnecting { identifier, attempt: *attempt, after_ms, reason: reason.clone() }
            }
            Update::Gap(gap) => Self::Gap { identifier, gap: *gap },
            Update::Ended(Ending { reason, status, place: Place { seq, call_id, cursor } }) => {
                let (reason, message) = match reason {
                    EndReason::CallEnded => ("call_ended", None),
                    EndReason::CaughtUp => ("caught_up", None),
                    EndReason::Failed(failure) => ("failed", Some(failure.message.clone())),
                };
                let (reason, status) = (reason.to_owned(), *status);
                Self::End { identifier, reason, message, status, seq: *seq, call_id: *call_id, cursor: *cursor }
            }
        })
    }

    /// Returns the line for a call that the user left at `place`.
    pub(crate) fn interrupted(identifier: &Identifier, place: Place) -> Self {
        let Place { seq, call_id, cursor } = place;
        let (identifier, reason) = (Some(identifier.to_string()), INTERRUPTED.to_owned());
        Self::End { identifier, reason, message: None, status: None, seq, call_id, cursor }
    }

    /// Returns the update that the line was written for; `None` for [`ClientLine::interrupted`].
    pub(crate) fn into_update(self) -> Result<Option<Update>, String> {
        Ok(Some(match self {
            Self::Ready { version: Some(version), .. } if version > VERSION => {
                return Err(format!(
                    "it was saved by a newer callscope: its format is version {version}, and this one reads up to {VERSION}"
                ));
            }
            Self::Ready { after: seq, call_id, cursor, .. } => Update::Ready(Place { seq, call_id, cursor }),
            Self::Resumed { after: seq, call_id, cursor, proven, .. } => {
                Update::Resumed { place: Place { seq, call_id, cursor }, proven }
            }
            Self::Reconnecting { attempt, after_ms, reason, .. } => {
                Update::Reconnecting { attempt, delay: Duration::from_millis(after_ms), reason, broke: true }
            }
            Self::Gap { gap, .. } => Update::Gap(gap),
            Self::End { reason, .. } if reason == INTERRUPTED => return Ok(None),
            Self::End { reason, message, status, seq, call_id, cursor, .. } => {
                let reason = match reason.as_str() {
                    "call_ended" => EndReason::CallEnded,
                    "caught_up" => EndReason::CaughtUp,
                    _ => EndReason::Failed(Failure::error(message.unwrap_or(reason))),
                };
                Update::Ended(Ending { reason, status, place: Place { seq, call_id, cursor } })
            }
        }))
    }
}
