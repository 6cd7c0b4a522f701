//! The work of the log writer: in its queue, in a batch, or parked.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Maintenance;
use crate::log::{Operation, Outcome};
use crate::store::StoreError;

/// The channel for the outcome of a piece of work.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A piece of work and the caller that waits for its outcome.
#[derive(Debug)]
pub(super) enum Work {
    Log(Operation, Reply<Outcome>),
    Maintenance(Maintenance, Reply<()>),
}

/// A piece of work with the state that it keeps from one transaction to the next.
#[derive(Debug)]
pub(super) struct Pending {
    pub work: Work,
    /// When the work was taken out of the queue.
    pub dequeued_at: Instant,
    /// Whether a transaction with this work may have been committed although no acknowledgement arrived.
    pub may_be_committed: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Pending {
    pub fn new(work: Work, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { work, dequeued_at: Instant::now(), may_be_committed: false, _permit: permit }
    }

    pub fn operation(&self) -> Option<&Operation> {
        match &self.work {
            Work::Log(operation, _) => Some(operation),
            Work::Maintenance(..) => None,
        }
    }

    /// The length of the delivery's body; 0 for other work.
    pub fn body_bytes(&self) -> usize {
        self.operation().and_then(Operation::delivery).map_or(0, |delivery| delivery.body.len())
    }

    /// Sends an error to the caller. If the caller has given up waiting, no one gets it.
    pub fn fail(self, error: StoreError) {
        match self.work {
            Work::Log(_, reply) => drop(reply.send(Err(error))),
            Work::Maintenance(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

/// Sends the outcomes of a committed batch to its callers.
pub(super) fn succeed(batch: Vec<Pending>, outcomes: Vec<Outcome>) {
    let mut outcomes = outcomes.into_iter();
    for pending in batch {
        match pending.work {
            Work::Log(_, reply) => drop(outcomes.next().map(|outcome| reply.send(Ok(outcome)))),
            Work::Maintenance(_, reply) => drop(reply.send(Ok(()))),
        }
    }
}

/// Sends an error to each caller of a batch.
pub(super) fn fail(batch: Vec<Pending>, error: StoreError) {
    let error = Arc::new(error);
    for pending in batch {
        pending.fail(StoreError::Failed(Arc::clone(&error)));
    }
}

/// The work of one transaction.
pub(super) struct Batch<'b> {
    pub operations: Vec<&'b Operation>,
    pub maintenance: Vec<&'b Maintenance>,
    /// Whether an earlier transaction with any of the work may have been committed.
    pub may_be_committed: bool,
}

impl<'b> Batch<'b> {
    pub fn of(batch: &'b [Pending]) -> Self {
        let mut whole = Self {
            operations: Vec::with_capacity(batch.len()),
            maintenance: Vec::new(),
            may_be_committed: batch.iter().any(|pending| pending.may_be_committed),
        };
        for pending in batch {
            match &pending.work {
                Work::Log(operation, _) => whole.operations.push(operation),
                Work::Maintenance(maintenance, _) => whole.maintenance.push(maintenance),
            }
        }
        whole
    }
}
