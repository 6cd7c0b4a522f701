//! Operations on calls whose rows are locked elsewhere.
//!
//! Another server that hangs in the middle of a transaction, or an administrator's session, may lock the row of a call
//! for long. That must delay this call only. So the operations that name the call are taken out of the batch and
//! parked. While any are parked, each batch is checked for locked rows first; the check waits for no lock.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use callscope_common::{CallId, Identifier};
use tracing::warn;

use super::pending::Pending;
use crate::log::Operation;
use crate::store::transaction::Tx;
use crate::store::{Store, StoreError};

/// Time between two attempts at the parked operations.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// An operation that is parked this long after it left the queue fails with [`StoreError::TimedOut`].
const PARK_TIMEOUT: Duration = Duration::from_secs(8);
/// The most operations that are parked at one time; further ones fail with [`StoreError::Overloaded`].
const MAX_PARKED: usize = 1_024;

/// How long batches are checked for locked rows after a transaction has met one.
const LOCK_CHECK_DURATION: Duration = Duration::from_secs(2);

/// The names that an operation states, and the ids of the calls that they lead to. Two operations with a name or id in
/// common keep their order.
pub(super) type TouchedNames = HashSet<String>;

/// Returns the names of an operation, and the ids of its `calls`.
pub(super) fn touched_names(operation: &Operation, calls: &[CallId]) -> TouchedNames {
    let names = operation.names().into_iter().map(|name| name.as_str().to_owned());
    names.chain(calls.iter().map(CallId::to_string)).collect()
}

/// The parked operations, oldest first.
#[derive(Default)]
pub(super) struct Parked {
    operations: Vec<Pending>,
    /// The names that any of them touches. A later operation that touches one of these is parked behind them.
    touched: TouchedNames,
    last_tried_at: Option<Instant>,
    /// When a transaction last met a locked row.
    locked_at: Option<Instant>,
}

impl Parked {
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Whether a batch may contain operations that have to be parked.
    pub fn needs_lock_check(&self) -> bool {
        !self.is_empty() || self.has_met_lock_recently()
    }

    fn has_met_lock_recently(&self) -> bool {
        self.locked_at.is_some_and(|at| at.elapsed() < LOCK_CHECK_DURATION)
    }

    pub fn is_due(&self) -> bool {
        !self.is_empty() && self.last_tried_at.is_none_or(|at| at.elapsed() >= RETRY_INTERVAL)
    }

    pub fn note_locked_row(&mut self) {
        if !self.has_met_lock_recently() {
            warn!("a call's row is locked elsewhere; its operations wait, all others go on");
        }
        self.locked_at = Some(Instant::now());
    }

    pub fn park(&mut self, pending: Pending, touched: TouchedNames) {
        if self.operations.len() >= MAX_PARKED {
            pending.fail(StoreError::Overloaded);
        } else if pending.dequeued_at.elapsed() > PARK_TIMEOUT {
            pending.fail(StoreError::TimedOut);
        } else {
            self.operations.push(pending);
            self.touched.extend(touched);
        }
    }

    /// Takes all parked operations out, to be tried again.
    pub fn take_all(&mut self) -> Vec<Pending> {
        self.last_tried_at = Some(Instant::now());
        self.touched.clear();
        std::mem::take(&mut self.operations)
    }

    /// Returns for each operation the names that it touches, and whether it is blocked: by a row that is locked
    /// elsewhere, or by an earlier operation that is blocked or parked. The check itself waits for no lock.
    pub async fn find_blocked(
        &self,
        store: &Store,
        operations: &[&Operation],
    ) -> Result<Vec<(TouchedNames, bool)>, StoreError> {
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
        // The check has locked rows itself. They are released now, because a dropped transaction is rolled back only at
        // the next use of its connection.
        tx.rollback().await?;
        let mut blocked = self.touched.clone();
        let mut found = Vec::with_capacity(operations.len());
        for (operation, calls) in operations.iter().zip(calls) {
            let is_locked = calls.iter().any(|call_id| locked.contains(call_id));
            let touched = touched_names(operation, &calls);
            let is_blocked = is_locked || !touched.is_disjoint(&blocked);
            if is_blocked {
                blocked.extend(touched.iter().cloned());
            }
            found.push((touched, is_blocked));
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
        let touched = touched_names(&operation, &[call_id]);
        let mut pending = Pending::new(Work::Log(operation, reply), None);
        pending.may_be_committed = may_be_committed;
        let mut parked = Parked::default();
        parked.park(pending, touched);
        task.commit_all(Vec::new(), &mut parked).await;
        outcome.await.expect("an answer").expect("an outcome")
    }

    #[tokio::test]
    async fn a_parked_deletion_whose_commit_was_not_acknowledged_is_done() {
        assert!(matches!(deleted(true).await, Outcome::Done(_)));
        assert!(matches!(deleted(false).await, Outcome::Refused(Refusal::NotFound)));
    }
}
