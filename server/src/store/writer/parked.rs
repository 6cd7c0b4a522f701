//! Operations on calls whose rows somebody else keeps locked.
//!
//! Another server that hangs in the middle of a transaction, or an admin's session, may hold a row for long. That must delay its own
//! call alone, so what names such a call is taken out of the batch and parked. While anything is parked, each batch is found over for
//! locked rows first, which waits for none of them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use callscope_common::{CallId, Identifier};
use tracing::warn;

use crate::log::{Operation, Pending};
use crate::store::transaction::Tx;
use crate::store::{Store, StoreError};

/// Between two tries of what is parked.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// For so long an operation stays parked; then its caller hears that the storage does not answer.
const PARK_TIMEOUT: Duration = Duration::from_secs(8);
/// Most operations that are parked at one time; further ones are refused.
const MAX_PARKED: usize = 1_024;

/// For so long after a transaction met a locked row, batches are found over for locked rows.
const LOCK_WATCH: Duration = Duration::from_secs(2);

/// What an operation concerns: the calls it names, and the names themselves.
pub(super) type Concerns = HashSet<String>;

/// What an operation on these `calls` concerns.
pub(super) fn concerns(op: &Operation, calls: &[CallId]) -> Concerns {
    let names = op.names().into_iter().map(|name| name.as_str().to_owned());
    names.chain(calls.iter().map(CallId::to_string)).collect()
}

/// What is parked, oldest first.
#[derive(Default)]
pub(super) struct Parked {
    waiting: Vec<(Instant, Pending)>,
    /// What any of them concerns. What comes later and concerns the same is parked behind them, so that a call's operations keep their
    /// order.
    concerns: Concerns,
    /// When it was last tried.
    tried: Option<Instant>,
    /// When a transaction last met a locked row.
    locked_at: Option<Instant>,
}

impl Parked {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether a batch may meet a locked row, or something that is parked and comes first.
    pub fn needs_lock_check(&self) -> bool {
        !self.is_empty() || self.saw_lock_lately()
    }

    fn saw_lock_lately(&self) -> bool {
        self.locked_at.is_some_and(|at| at.elapsed() < LOCK_WATCH)
    }

    /// Whether it is time to try again.
    pub fn is_due(&self) -> bool {
        !self.is_empty() && self.tried.is_none_or(|tried| tried.elapsed() >= RETRY_INTERVAL)
    }

    /// Notes that a transaction met a locked row.
    pub fn note_locked_row(&mut self) {
        if !self.saw_lock_lately() {
            warn!("a call's row is locked elsewhere; what concerns that call waits, everything else goes on");
        }
        self.locked_at = Some(Instant::now());
    }

    /// Parks an operation. `since`: when it was parked first.
    pub fn park(&mut self, since: Instant, pending: Pending, concerns: Concerns) {
        if self.waiting.len() >= MAX_PARKED {
            let _ = pending.answer.send(Err(StoreError::Overloaded));
        } else if since.elapsed() > PARK_TIMEOUT {
            let _ = pending.answer.send(Err(StoreError::TimedOut));
        } else {
            self.waiting.push((since, pending));
            self.concerns.extend(concerns);
        }
    }

    /// Takes everything out, to be tried again.
    pub fn take(&mut self) -> Vec<(Instant, Pending)> {
        self.tried = Some(Instant::now());
        self.concerns.clear();
        std::mem::take(&mut self.waiting)
    }

    /// For each operation what it concerns, and whether it has to wait: for a row that is locked elsewhere, or for an operation before
    /// it that has to. Waits for no lock itself.
    pub async fn find_blocked(&self, store: &Store, ops: &[&Operation]) -> Result<Vec<(Concerns, bool)>, StoreError> {
        let mut tx = Tx::begin(store).await?;
        let names: HashSet<&Identifier> = ops.iter().flat_map(|op| op.names()).collect();
        let names: Vec<&str> = names.into_iter().map(Identifier::as_str).collect();
        let named = tx.names(&names).await?;
        let calls_of = |op: &&Operation| -> Vec<CallId> {
            let of_name =
                |name: &Identifier| named.iter().find(|(known, _)| known == name.as_str()).map(|(_, call_id)| *call_id);
            op.names().into_iter().filter_map(of_name).chain(op.call_ids()).collect()
        };
        let calls: Vec<Vec<CallId>> = ops.iter().map(calls_of).collect();
        let ids: HashSet<CallId> = calls.iter().flatten().copied().collect();
        let ids: Vec<CallId> = ids.into_iter().collect();
        let held = tx.locked_elsewhere(&ids).await?;
        // Now, and not when the connection is used again: until then the rows would be locked for other servers.
        tx.rollback().await?;
        let mut waiting = self.concerns.clone();
        let mut found = Vec::with_capacity(ops.len());
        for (op, calls) in ops.iter().zip(calls) {
            let is_held = calls.iter().any(|call_id| held.contains(call_id));
            let concerns = concerns(op, &calls);
            let waits = is_held || !concerns.is_disjoint(&waiting);
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
    use std::sync::OnceLock;

    use callscope_common::Timestamp;
    use tokio::sync::oneshot;

    use super::super::Writer;
    use super::*;
    use crate::log::{Delete, Outcome, Refusal, UnknownCalls, new_id};
    use crate::store::testing::Scratch;

    /// What a deletion of a call that is gone comes to, after it was parked.
    async fn deleted(may_be_committed: bool) -> Outcome {
        let scratch = Scratch::open().await;
        let writer = Writer {
            store: scratch.store.clone(),
            unknown_calls: UnknownCalls::Create,
            on_commit: Box::new(|_| {}),
            turn_ids_without_speaker_before: OnceLock::new(),
        };
        let (answer, outcome) = oneshot::channel();
        let call_id = new_id(Timestamp::from_micros(1).expect("a time"));
        let op = Operation::Delete(Delete { call_id, ended_before: None });
        let concerns = concerns(&op, &[call_id]);
        let mut parked = Parked::default();
        parked.park(Instant::now(), Pending { op, answer, _room: None, may_be_committed }, concerns);
        writer.commit_all(Vec::new(), &mut parked).await;
        outcome.await.expect("an answer").expect("an outcome")
    }

    #[tokio::test]
    async fn a_deletion_that_came_through_unheard_and_was_parked_is_done() {
        assert!(matches!(deleted(true).await, Outcome::Done(_)));
        assert!(matches!(deleted(false).await, Outcome::Refused(Refusal::NotFound)));
    }
}
