//! Operations on calls whose rows are locked elsewhere.
//!
//! Another server that hangs in the middle of a transaction, or an administrator's session, may lock a row for long.
//! That must delay only its own call. So the operations that name such a call are taken out of the batch and parked.
//! While any are parked, each batch is checked for locked rows first; the check waits for no lock.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use callscope_common::{CallId, Identifier};
use tracing::warn;

use super::pending::Pending;
use crate::log::Operation;
use crate::store::transaction::Tx;
use crate::store::{Store, StoreError};

/// Time between two attempts at what is parked.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// How long an operation stays parked; then its caller gets [`StoreError::TimedOut`].
const PARK_TIMEOUT: Duration = Duration::from_secs(8);
/// The most operations that are parked at one time; further ones are refused.
const MAX_PARKED: usize = 1_024;

/// How long batches are checked for locked rows after a transaction met one.
const LOCK_WATCH: Duration = Duration::from_secs(2);

/// What an operation concerns: the calls that it names, and the names themselves.
pub(super) type Concerns = HashSet<String>;

/// What an operation on these `calls` concerns.
pub(super) fn concerns(operation: &Operation, calls: &[CallId]) -> Concerns {
    let names = operation.names().into_iter().map(|name| name.as_str().to_owned());
    names.chain(calls.iter().map(CallId::to_string)).collect()
}

/// The parked operations, oldest first.
#[derive(Default)]
pub(super) struct Parked {
    waiting: Vec<Pending>,
    /// What any of them concerns. A later operation that concerns the same is parked behind them, so that the
    /// operations of a call keep their order.
    concerns: Concerns,
    tried_at: Option<Instant>,
    /// When a transaction last met a locked row.
    locked_at: Option<Instant>,
}

impl Parked {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether a batch may meet a locked row, or an operation that is parked and comes first.
    pub fn needs_lock_check(&self) -> bool {
        !self.is_empty() || self.saw_lock_lately()
    }

    fn saw_lock_lately(&self) -> bool {
        self.locked_at.is_some_and(|at| at.elapsed() < LOCK_WATCH)
    }

    pub fn is_due(&self) -> bool {
        !self.is_empty() && self.tried_at.is_none_or(|at| at.elapsed() >= RETRY_INTERVAL)
    }

    pub fn note_locked_row(&mut self) {
        if !self.saw_lock_lately() {
            warn!("a call's row is locked elsewhere; its operations wait, all others go on");
        }
        self.locked_at = Some(Instant::now());
    }

    pub fn park(&mut self, pending: Pending, concerns: Concerns) {
        if self.waiting.len() >= MAX_PARKED {
            pending.fail(StoreError::Overloaded);
        } else if pending.since.elapsed() > PARK_TIMEOUT {
            pending.fail(StoreError::TimedOut);
        } else {
            self.waiting.push(pending);
            self.concerns.extend(concerns);
        }
    }

    /// Takes all parked operations out, to be tried again.
    pub fn take(&mut self) -> Vec<Pending> {
        self.tried_at = Some(Instant::now());
        self.concerns.clear();
        std::mem::take(&mut self.waiting)
    }

    /// Returns for each operation what it concerns, and whether it has to wait: for a row that is locked elsewhere, or
    /// for an earlier operation that waits. The check itself waits for no lock.
    pub async fn find_blocked(
        &self,
        store: &Store,
        operations: &[&Operation],
    ) -> Result<Vec<(Concerns, bool)>, StoreError> {
        let mut tx = Tx::begin(store).await?;
        let names: HashSet<&Identifier> = operations.iter().flat_map(|operation| operation.names()).collect();
        let names: Vec<&str> = names.into_iter().map(Identifier::as_str).collect();
        let named = tx.names(&names).await?;
        let calls_of = |operation: &&Operation| -> Vec<CallId> {
            let of_name =
                |name: &Identifier| named.iter().find(|(known, _)| known == name.as_str()).map(|(_, call_id)| *call_id);
            operation.names().into_iter().filter_map(of_name).chain(operation.call_ids()).collect()
        };
        let calls: Vec<Vec<CallId>> = operations.iter().map(calls_of).collect();
        let ids: HashSet<CallId> = calls.iter().flatten().copied().collect();
        let ids: Vec<CallId> = ids.into_iter().collect();
        let locked = tx.locked_elsewhere(&ids).await?;
        // The rows are locked for other servers until the rollback, which would otherwise wait for the next use of the
        // connection.
        tx.rollback().await?;
        let mut waiting = self.concerns.clone();
        let mut found = Vec::with_capacity(operations.len());
        for (operation, calls) in operations.iter().zip(calls) {
            let is_locked = calls.iter().any(|call_id| locked.contains(call_id));
            let concerns = concerns(operation, &calls);
            let waits = is_locked || !concerns.is_disjoint(&waiting);
            if waits {
                waiting.extend(concerns.iter().cloned());
            }
            found.push((concerns, waits));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use callscope_common::Timestamp;
    use tokio::sync::oneshot;

    use super::super::pending::Work;
    use super::super::task::WriterTask;
    use super::*;
    use crate::log::{Delete, Outcome, Refusal, UnknownCalls, new_id};
    use crate::store::testing::{Scratch, render};

    /// The outcome of a parked deletion of a call that does not exist.
    async fn deleted(may_be_committed: bool) -> Outcome {
        let scratch = Scratch::open().await;
        let task = WriterTask::new(scratch.store.clone(), UnknownCalls::Create, render, Box::new(drop));
        let (reply, outcome) = oneshot::channel();
        let call_id = new_id(Timestamp::from_micros(1).expect("a time"));
        let operation = Operation::Delete(Delete { call_id, ended_before: None });
        let concerns = concerns(&operation, &[call_id]);
        let mut pending = Pending::new(Work::Log(operation, reply), None);
        pending.may_be_committed = may_be_committed;
        let mut parked = Parked::default();
        parked.park(pending, concerns);
        task.commit_all(Vec::new(), &mut parked).await;
        outcome.await.expect("an answer").expect("an outcome")
    }

    #[tokio::test]
    async fn a_parked_deletion_that_was_committed_unacknowledged_is_done() {
        assert!(matches!(deleted(true).await, Outcome::Done(_)));
        assert!(matches!(deleted(false).await, Outcome::Refused(Refusal::NotFound)));
    }
}
