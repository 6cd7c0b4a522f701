//! A verified webhook, and the change that its body asks for.

use callscope_common::api::WebhookRoute;
use callscope_common::elevenlabs::ProviderTurn;
use callscope_common::{CallData, CallId, Speaker, Timestamp};
use uuid::Uuid;

use super::{Answer, DedupHash, DedupKey, Names};

/// A webhook whose signature was verified.
#[derive(Debug)]
pub struct Delivery {
    /// Generated at the receipt.
    pub delivery_id: Uuid,
    /// The webhook's route.
    pub route: WebhookRoute,
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
    /// What else makes this delivery a repeat of another one.
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

/// What a webhook says of a call.
#[derive(Debug)]
pub enum Change {
    /// One live turn.
    Turn(Turn),
    /// The result of a call that ended, or that could not be started.
    Result(Box<CallResult>),
    /// The recording of a call.
    Audio {
        /// The names of the call.
        names: Names,
        /// The media type, detected from the first bytes.
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
    /// When it was said; `None` if the webhook states no time, so that the time of the receipt counts.
    pub at: Option<Timestamp>,
    /// The sender's id of the turn.
    pub turn_id: Option<String>,
    /// Whether the text is final. An interim text is shown to followers and not stored.
    pub is_final: bool,
}

/// A `post_call_transcription`, or a `call_initiation_failure`, which has neither turns nor a transcript.
#[derive(Debug)]
pub struct CallResult {
    /// The names of the call.
    pub names: Names,
    /// The provider's agent.
    pub agent_id: Option<String>,
    /// How the call ended, according to the provider.
    pub ending: Ending,
    /// The result. The log sets its status and its subject.
    pub data: CallData,
    /// The provider's turns.
    pub turns: Vec<ProviderTurn>,
    /// The provider's transcript, JSON as received.
    pub transcript: Option<String>,
}

/// How a call ended, according to the provider's `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// `done`.
    Done,
    /// `failed`.
    Failed,
    /// Any other text, or none.
    Unspecified,
}

/// A stored delivery whose repeats get the same answer.
#[derive(Debug, Clone)]
pub struct EarlierDelivery {
    pub(crate) delivery_id: Uuid,
    pub(crate) body_hash: DedupHash,
    pub(crate) call_id: Option<CallId>,
    pub(crate) answer: Answer,
}
