//! What can be asked of the log, and what comes of it.

use std::sync::Arc;

use callscope_common::api::{CallPatch, NewCall};
use callscope_common::elevenlabs::ProviderTurn;
use callscope_common::protocol::ServerMessage;
use callscope_common::{CallData, CallId, Identifier, Speaker, Timestamp};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use uuid::Uuid;

mod names;

pub use names::turn_hash;
pub(crate) use names::turn_hash_without_speaker;

use crate::store::deliveries::DeliveryRange;
use crate::store::nodes::Heartbeat;

/// SHA-256 of what makes a delivery the same as another.
pub type DedupHash = [u8; 32];

/// One operation on the log.
#[derive(Debug)]
pub enum Operation {
    /// A webhook.
    Deliver(Box<Delivery>),
    /// `POST /api/v1/calls`.
    Register(Box<Register>),
    /// `PATCH /api/v1/calls/{id}`.
    Patch(Box<Patch>),
    /// `DELETE /api/v1/calls/{id}`, or retention.
    Delete(Delete),
    /// A server process's sign of life.
    Heartbeat(Arc<Heartbeat>),
    /// A server process goes away.
    Deregister(String),
    /// To keep no more of these deliveries than must be.
    StripDeliveries(DeliveryRange),
}

/// A webhook that verified.
#[derive(Debug)]
pub struct Delivery {
    /// Made on receipt.
    pub delivery_id: Uuid,
    /// Which webhook.
    pub route: Route,
    /// The envelope's `type`; `turn` or `partial` for turns. Safe to show.
    pub kind: Option<String>,
    /// When it came in.
    pub received_at: Timestamp,
    /// Where from.
    pub remote_addr: Option<String>,
    /// JSON: `[[name, value], …]`.
    pub headers: String,
    /// As received.
    pub body: Vec<u8>,
    /// SHA-256 of the body.
    pub body_hash: DedupHash,
    /// The key of its `Idempotency-Key` header, where it has one.
    pub idempotency_key: Option<DedupHash>,
    /// What else makes it the same as another.
    pub dedup_key: DedupKey,
    /// What it says.
    pub change: Change,
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
    /// As stored.
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

/// What makes a delivery the same as another one of its route, beside the sender's own key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DedupKey {
    /// Nothing: it changes nothing, so it may come again.
    None,
    /// Equal content, or equal bytes under an equal signature.
    Content(DedupHash),
    /// Equal bytes without a signature, within the same second or the one before.
    Unsigned {
        /// This second's key.
        now: DedupHash,
        /// The key of the second before.
        before: DedupHash,
        /// The key of the second after: two that come together may be taken up in the other order.
        after: DedupHash,
    },
    /// Equal `turn_id` of the same speaker in the same call. Holds the hash of both.
    Turn(DedupHash),
}

/// Hashes `parts` so that no two different lists of parts are the same.
#[must_use]
pub fn dedup_hash(parts: &[&[u8]]) -> DedupHash {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// A key that begins with a time, so that the keys of one time are neighbours in the database's index: the pages there that a
/// batch changes are few and at hand. 24 bytes of hash follow.
#[must_use]
pub fn dedup_hash_at(unix_secs: i64, parts: &[&[u8]]) -> DedupHash {
    let mut hash = dedup_hash(parts);
    hash[..8].copy_from_slice(&unix_secs.to_be_bytes());
    hash
}

impl DedupKey {
    /// The key under which a turn with that id takes effect in that call: the call, whose keys are neighbours like its events,
    /// and 16 bytes of hash.
    #[must_use]
    pub fn hash_of_turn(call_id: CallId, turn_hash: &DedupHash) -> DedupHash {
        let mut hash = dedup_hash(&[b"turn", call_id.as_bytes(), turn_hash]);
        hash[..16].copy_from_slice(call_id.as_bytes());
        hash
    }

    /// The keys to look for before the call is known.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = DedupHash> {
        let keys = match self {
            Self::None | Self::Turn(_) => [None; 3],
            Self::Content(key) => [Some(*key), None, None],
            Self::Unsigned { now, before, after } => [Some(*now), Some(*before), Some(*after)],
        };
        keys.into_iter().flatten()
    }
}

/// Names under which a webhook speaks of a call: what its platform states, never what a caller's client can set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The `call_id` of a registered call, proved by the link that its registration was answered with.
    pub linked: Option<Identifier>,
    /// Ours, or the provider's where a turn says so.
    pub call_sid: Option<Identifier>,
    /// The provider's conversation.
    pub conversation_id: Option<Identifier>,
    /// The provider's sids (`CA…`, `SCL_…`).
    pub others: Vec<Identifier>,
}

impl Names {
    /// All of them, strongest first: the linked call, conversation id, call sid, the rest; a sid of our own making before all but the
    /// link.
    pub fn iter(&self) -> impl Iterator<Item = &Identifier> {
        let own = self.call_sid.iter().filter(|sid| sid.is_own_sid());
        let foreign = self.call_sid.iter().filter(|sid| !sid.is_own_sid());
        self.linked.iter().chain(own).chain(&self.conversation_id).chain(foreign).chain(&self.others)
    }
}

/// What kind of name an identifier is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// The call's sid.
    CallSid,
    /// The provider's conversation id.
    ConversationId,
    /// Any other.
    Provider,
}

impl NameKind {
    /// As stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CallSid => "call_sid",
            Self::ConversationId => "conversation_id",
            Self::Provider => "provider",
        }
    }
}

/// What a webhook says.
#[derive(Debug)]
pub enum Change {
    /// One live turn.
    Turn(Turn),
    /// A call's result.
    Result(Box<CallResult>),
    /// A call that never came about.
    Failure(Box<CallFailure>),
    /// A recording.
    Audio {
        /// Whose.
        names: Names,
        /// What it is, by its first bytes.
        content_type: &'static str,
        /// What it holds, decoded.
        bytes: Vec<u8>,
    },
    /// Nothing that is acted on; kept as received.
    Ignored {
        /// Whose, as far as it says.
        names: Names,
        /// Why nothing is done.
        reason: &'static str,
    },
    /// Refused, but kept.
    Rejected {
        /// The HTTP status.
        status: u16,
        /// What was wrong.
        message: String,
        /// Where.
        details: Option<String>,
    },
}

/// One live turn.
#[derive(Debug)]
pub struct Turn {
    /// Whose.
    pub names: Names,
    /// Who spoke.
    pub speaker: Speaker,
    /// What was said.
    pub text: String,
    /// When; on receipt where it does not say.
    pub at: Option<Timestamp>,
    /// The sender's id for it.
    pub turn_id: Option<String>,
    /// Whether it is more than an interim state.
    pub is_final: bool,
}

/// `post_call_transcription`.
#[derive(Debug)]
pub struct CallResult {
    /// Whose.
    pub names: Names,
    /// The provider's agent.
    pub agent_id: Option<String>,
    /// How the provider says it ended.
    pub ending: Ending,
    /// All but the status and the subject, which are the log's to say.
    pub data: CallData,
    /// The provider's turns.
    pub turns: Vec<ProviderTurn>,
    /// The provider's transcript, JSON as it came.
    pub transcript: Option<String>,
}

/// How the provider says a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// `done`.
    Done,
    /// `failed`.
    Failed,
    /// Anything else, or nothing.
    Unspecified,
}

/// `call_initiation_failure`.
#[derive(Debug)]
pub struct CallFailure {
    /// Whose.
    pub names: Names,
    /// The provider's agent.
    pub agent_id: Option<String>,
    /// Reason, time and the provider's metadata.
    pub data: CallData,
}

/// A call to register.
#[derive(Debug)]
pub struct Register {
    /// Drawn by the caller, so that trying again does not register twice.
    pub call_id: CallId,
    /// When.
    pub at: Timestamp,
    /// What is known of it.
    pub call: NewCall,
}

/// A deletion. It is decided within its transaction, on that very record.
#[derive(Debug)]
pub struct Delete {
    /// The record; one that was absorbed by another is not deleted, and neither is the other.
    pub call_id: CallId,
    /// Only where the call ended, and was last changed, before this.
    pub ended_before: Option<Timestamp>,
}

/// A change to a call.
#[derive(Debug)]
pub struct Patch {
    /// Which call.
    pub id: Identifier,
    /// What changes.
    pub patch: CallPatch,
}

/// What an operation came to.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A webhook's answer.
    Answered(Answer),
    /// The call as it is now.
    Done(CallId),
    /// It is written.
    Noted,
    /// Nothing was done.
    Refused(Refusal),
}

/// The answer to a webhook; a repeat gets the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Arc<str>,
}

/// Why an operation of the API was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No such call.
    NotFound,
    /// Another call has it.
    IdentifierTaken(Identifier),
    /// An ended call takes no status but an end.
    Ended,
    /// The record was absorbed by this one.
    Absorbed(CallId),
    /// The record no longer is what the operation was meant for.
    Changed,
}

/// A delivery that took effect earlier.
#[derive(Debug, Clone)]
pub struct EarlierDelivery {
    pub(crate) delivery_id: Uuid,
    pub(crate) body_hash: DedupHash,
    pub(crate) call_id: Option<CallId>,
    pub(crate) answer: Answer,
}

/// How a delivery was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It took effect.
    Accepted,
    /// It had been received before.
    Duplicate,
    /// It was kept and nothing was done.
    Ignored,
    /// It was refused.
    Rejected,
}

impl Verdict {
    /// As stored.
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

/// What is kept of a delivery beside its own fields. The row's other half is the [`Delivery`] at `index` in the batch.
#[derive(Debug)]
pub struct NewDelivery {
    pub(crate) delivery_id: Uuid,
    pub(crate) verdict: Verdict,
    pub(crate) reason: Option<String>,
    pub(crate) dedup_hash: Option<DedupHash>,
    pub(crate) idempotency_key: Option<DedupHash>,
    pub(crate) call_id: Option<CallId>,
    pub(crate) duplicate_of: Option<Uuid>,
    pub(crate) keep_body: bool,
    pub(crate) answer: Answer,
}

/// A result to store.
#[derive(Debug)]
pub struct NewResult {
    pub(crate) call_id: CallId,
    pub(crate) call_data: Arc<str>,
    pub(crate) transcript: Transcript,
}

/// What becomes of the provider's transcript when a result is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transcript {
    /// It stays.
    Keep,
    /// It is replaced by this one, or by none.
    Replace(Option<String>),
}

/// A recording to store.
#[derive(Debug)]
pub struct NewAudio {
    pub(crate) call_id: CallId,
    pub(crate) content_type: &'static str,
    pub(crate) delivery_id: Uuid,
}

/// A record to be absorbed, with what was loaded of it.
#[derive(Debug)]
pub struct AbsorbedCall {
    pub(crate) call_id: CallId,
    /// The messages of its log, and what caused each.
    pub(crate) events: Vec<(ServerMessage, Option<Uuid>)>,
    pub(crate) names: Vec<Identifier>,
    /// The provider's transcripts of both records, as far as they have one: the survivor's, and the absorbed one's.
    pub(crate) transcripts: (Option<String>, Option<String>),
}

/// A merge to write.
#[derive(Debug)]
pub struct Merge {
    pub(crate) from: CallId,
    pub(crate) into: CallId,
    pub(crate) moves_audio: bool,
}

/// An operation on its way, with where its outcome goes.
#[derive(Debug)]
pub(crate) struct Pending {
    pub op: Operation,
    pub answer: oneshot::Sender<Result<Outcome, crate::store::StoreError>>,
    pub _room: Option<OwnedSemaphorePermit>,
    /// A transaction that held it may have been committed although that was not heard.
    pub may_be_committed: bool,
}
