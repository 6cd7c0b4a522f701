//! The outcome of a delivery, from which `ingest::receipt` makes the sender's [`Answer`].

use callscope_common::CallStatus;
use callscope_common::api::Verdict;

use super::Answer;

/// The outcome of a delivery that is not a repeat.
#[derive(Debug, Clone, Copy)]
pub enum Receipt<'a> {
    /// A turn was appended to the log.
    TurnAppended {
        /// The turn's id, unique among all calls.
        transcription_id: i64,
        /// The turn's number in its call.
        sequence_number: i64,
        /// The seq of the event.
        seq: i64,
        /// The sid of the call.
        call_sid: &'a str,
    },
    /// An interim state of a turn was shown to followers.
    PartialTurn {
        /// The sid of the call.
        call_sid: &'a str,
        /// Whether the final turn had arrived before; then the interim state was not shown.
        is_late: bool,
    },
    /// A result, a failure or a recording took effect.
    Processed(CallState<'a>),
    /// The delivery was stored and had no effect.
    Ignored {
        /// The call that the delivery names.
        call: CallState<'a>,
        /// Why it had no effect.
        reason: &'a str,
    },
    /// The body cannot be read.
    Unreadable {
        /// The HTTP status, chosen by the reader of the body.
        status: u16,
        /// What is wrong.
        message: &'a str,
        /// Where it is wrong.
        details: Option<&'a str>,
    },
    /// No call has that name, and [`UnknownCalls::Reject`](super::UnknownCalls::Reject) is set.
    UnknownCall,
    /// The sender used this `Idempotency-Key` with another body.
    IdempotencyKeyReused,
}

/// The state of a call after a delivery.
#[derive(Debug, Clone, Copy)]
pub struct CallState<'a> {
    /// The provider's conversation id.
    pub conversation_id: Option<&'a str>,
    /// The sid; none if no call is known.
    pub call_sid: Option<&'a str>,
    /// The status; none if no call is known.
    pub status: Option<CallStatus>,
}

impl Receipt<'_> {
    /// The verdict that is stored with the delivery.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::TurnAppended { .. } | Self::PartialTurn { is_late: false, .. } | Self::Processed(_) => {
                Verdict::Accepted
            }
            Self::PartialTurn { is_late: true, .. } | Self::Ignored { .. } => Verdict::Ignored,
            Self::Unreadable { .. } | Self::UnknownCall | Self::IdempotencyKeyReused => Verdict::Rejected,
        }
    }

    /// Why the delivery had no effect, as it is stored with the delivery.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::TurnAppended { .. } | Self::PartialTurn { is_late: false, .. } | Self::Processed(_) => None,
            Self::PartialTurn { is_late: true, .. } => Some("the turn is final already"),
            Self::Ignored { reason, .. } => Some(reason),
            Self::Unreadable { message, .. } => Some(message),
            Self::UnknownCall => Some("no such call, and calls that were not registered are rejected here"),
            Self::IdempotencyKeyReused => Some("this Idempotency-Key was used with another body"),
        }
    }
}

/// Makes the answer from a receipt. It is called once for each delivery that is not a repeat.
pub type RenderReceipt = fn(&Receipt<'_>) -> Answer;
