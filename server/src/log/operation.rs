//! What can be asked of the log, and what an operation resulted in.

use callscope_common::api::{CallPatch, NewCall};
use callscope_common::{CallId, Identifier, Timestamp};
use smallvec::SmallVec;

use super::{Answer, Change, Delivery, sid_prefix};

/// One operation on the log.
#[derive(Debug)]
pub enum Operation {
    /// A webhook that came in.
    Deliver(Box<Delivery>),
    /// `POST /api/v1/calls`.
    Register(Box<Register>),
    /// `PATCH /api/v1/calls/{id}`.
    Patch(Box<Patch>),
    /// `DELETE /api/v1/calls/{id}`, or the retention of calls.
    Delete(Delete),
}

/// A call to register.
#[derive(Debug)]
pub struct Register {
    /// Drawn by the caller, so that a retry does not register a second call.
    pub call_id: CallId,
    /// When the request arrived.
    pub at: Timestamp,
    /// What is known of the call.
    pub call: NewCall,
}

/// A change to a call.
#[derive(Debug)]
pub struct Patch {
    /// Names the call.
    pub id: Identifier,
    /// The fields that change.
    pub patch: CallPatch,
}

/// A deletion. Whether it applies is decided within its transaction.
#[derive(Debug)]
pub struct Delete {
    /// The record. A record that another one absorbed is not deleted, and neither is the other one.
    pub call_id: CallId,
    /// Delete the call only if it ended, and last changed, before this time.
    pub ended_before: Option<Timestamp>,
}

impl Operation {
    pub(crate) fn delivery(&self) -> Option<&Delivery> {
        match self {
            Self::Deliver(delivery) => Some(delivery),
            _ => None,
        }
    }

    /// Every identifier that the operation names.
    pub(crate) fn names(&self) -> SmallVec<[&Identifier; 4]> {
        match self {
            Self::Deliver(delivery) => delivery.change.names().map(|names| names.iter().collect()).unwrap_or_default(),
            Self::Register(register) => register.call.call_sid.iter().chain(&register.call.conversation_id).collect(),
            Self::Patch(change) => {
                let Patch { id, patch } = &**change;
                let given = patch.call_sid.iter().chain(&patch.conversation_id).chain(&patch.identifiers);
                given.chain([id]).collect()
            }
            Self::Delete(_) => SmallVec::new(),
        }
    }

    /// The calls that the operation names by their own ids, or by identifiers that may spell one.
    pub(crate) fn call_ids(&self) -> SmallVec<[CallId; 2]> {
        let mut ids: SmallVec<[CallId; 2]> = self.names().into_iter().filter_map(Identifier::as_call_id).collect();
        match self {
            Self::Register(register) => ids.push(register.call_id),
            Self::Delete(delete) => ids.push(delete.call_id),
            Self::Deliver(_) | Self::Patch(_) => {}
        }
        ids
    }

    /// The prefix of the sid that the operation may have to generate.
    pub(crate) fn sid_prefix(&self) -> Option<String> {
        match self {
            Self::Deliver(delivery) => delivery.change.names().map(|_| sid_prefix(None, delivery.received_at)),
            Self::Register(register) if register.call.call_sid.is_none() => {
                Some(sid_prefix(register.call.subject.as_deref(), register.at))
            }
            _ => None,
        }
    }

    /// The number of turns that the operation may append.
    pub(crate) fn turns(&self) -> usize {
        match self.delivery().map(|delivery| &delivery.change) {
            Some(Change::Turn(turn)) => usize::from(turn.is_final),
            Some(Change::Result(result)) => result.turns.len(),
            _ => 0,
        }
    }
}

/// What an operation resulted in.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A webhook got this answer.
    Answered(Answer),
    /// The change to this call was made.
    Done(CallId),
    /// Nothing was changed.
    Refused(Refusal),
}

/// Why an operation of the API was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No call has that name.
    NotFound,
    /// The identifier belongs to another call.
    IdentifierTaken(Identifier),
    /// A call that ended takes no status but an end.
    Ended,
    /// The record was absorbed by this one.
    Absorbed(CallId),
    /// The record is no longer what the operation was meant for.
    Changed,
}
