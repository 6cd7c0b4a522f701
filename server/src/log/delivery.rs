//! A webhook that verified, and what it says.

use callscope_common::elevenlabs::ProviderTurn;
use callscope_common::{CallData, CallId, Speaker, Timestamp};
use uuid::Uuid;

use super::{Answer, DedupHash, DedupKey, Names};

/// A webhook that verified.
#[derive(Debug)]
pub struct Delivery {
    /// Drawn at the receipt.
    pub delivery_id: Uuid,
    /// The webhook's route.
    pub route: Route,
    /// The envelope's `type`; `turn` or `partial` for turns. It is safe to print.
    pub kind: Option<String>,
    /// When the request arrived.
    pub received_at: Timestamp,
    /// The sender's address.
    pub remote_addr: Option<String>,
    /// JSON: `[[name, value], …]`.
    pub headers: String,
    /// The bytes as received.
    pub body: Vec<u8>,
    /// SHA-256 of the body.
    pub body_hash: DedupHash,
    /// The hash of the sender's `Idempotency-Key` header.
    pub idempotency_key: Option<DedupHash>,
    /// What else makes this delivery the same as another.
    pub dedup_key: DedupKey,
    /// What the body says.
    pub change: Change,
}

impl Delivery {
    /// The hash of the `turn_id`, if the delivery is a final turn with one.
    pub(crate) fn turn_hash(&self) -> Option<&DedupHash> {
        match &self.dedup_key {
            DedupKey::Turn(hash) => Some(hash),
            _ => None,
        }
    }
}

/// The webhook routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// `POST /webhooks/elevenlabs/transcription`
    Transcription,
    /// `POST /webhooks/elevenlabs/post-call`
    PostCall,
}

impl Route {
    /// The text that is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transcription => "transcription",
            Self::PostCall => "post-call",
        }
    }

    /// Reads what [`as_str`](Self::as_str) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Transcription, Self::PostCall].into_iter().find(|route| route.as_str() == text)
    }
}

/// What a webhook says.
#[derive(Debug)]
pub enum Change {
    /// One live turn.
    Turn(Turn),
    /// The result of a call that ended.
    Result(Box<CallResult>),
    /// A call that could not be started.
    Failure(Box<CallFailure>),
    /// The recording of a call.
    Audio {
        /// The names of the call.
        names: Names,
        /// The media type, found by the first bytes.
        content_type: &'static str,
        /// The decoded recording.
        bytes: Vec<u8>,
    },
    /// A delivery that is stored and has no effect.
    Ignored {
        /// The names of the call, as far as the body states them.
        names: Names,
        /// Why the delivery has no effect.
        reason: &'static str,
    },
    /// A delivery that is stored and refused, because its body cannot be read.
    Rejected {
        /// The HTTP status of the answer, chosen by the reader of the body.
        status: u16,
        /// What is wrong.
        message: String,
        /// Where it is wrong.
        details: Option<String>,
    },
}

impl Change {
    pub(crate) fn names(&self) -> Option<&Names> {
        match self {
            Self::Turn(turn) => Some(&turn.names),
            Self::Result(result) => Some(&result.names),
            Self::Failure(failure) => Some(&failure.names),
            Self::Audio { names, .. } | Self::Ignored { names, .. } => Some(names),
            Self::Rejected { .. } => None,
        }
    }
}

/// One live turn.
#[derive(Debug)]
pub struct Turn {
    /// The names of the call.
    pub names: Names,
    /// The speaker of the turn.
    pub speaker: Speaker,
    /// What was said.
    pub text: String,
    /// When it was said; the time of the receipt counts if the webhook states none.
    pub at: Option<Timestamp>,
    /// The sender's id of the turn.
    pub turn_id: Option<String>,
    /// Whether the text is final, rather than an interim state that is shown and not stored.
    pub is_final: bool,
}

/// A `post_call_transcription`.
#[derive(Debug)]
pub struct CallResult {
    /// The names of the call.
    pub names: Names,
    /// The provider's agent.
    pub agent_id: Option<String>,
    /// How the provider says that the call ended.
    pub ending: Ending,
    /// The result. The log sets its status and its subject.
    pub data: CallData,
    /// The provider's turns.
    pub turns: Vec<ProviderTurn>,
    /// The provider's transcript, JSON as received.
    pub transcript: Option<String>,
}

/// How the provider says that a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// `done`.
    Done,
    /// `failed`.
    Failed,
    /// Any other text, or none.
    Unspecified,
}

/// A `call_initiation_failure`.
#[derive(Debug)]
pub struct CallFailure {
    /// The names of the call.
    pub names: Names,
    /// The provider's agent.
    pub agent_id: Option<String>,
    /// The reason, the time and the provider's metadata.
    pub data: CallData,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It took effect.
    Accepted,
    /// It repeats an earlier delivery.
    Duplicate,
    /// It was stored and had no effect.
    Ignored,
    /// It was refused.
    Rejected,
}

impl Verdict {
    /// The text that is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
        }
    }
}

/// A delivery that took effect before; its repeats get the same answer.
#[derive(Debug, Clone)]
pub struct EarlierDelivery {
    pub(crate) delivery_id: Uuid,
    pub(crate) body_hash: DedupHash,
    pub(crate) call_id: Option<CallId>,
    pub(crate) answer: Answer,
}
