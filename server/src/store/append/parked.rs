//! Operations on calls whose rows somebody else keeps locked.
//!
//! Another server that hangs in the middle of a transaction, or an admin's session, may hold a row for long. That must delay its own
//! call alone, so what names such a call is taken out of the batch and parked. While anything is parked, each batch is looked over for
//! locked rows first, which waits for none of them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use callscope_common::{CallId, Identifier};
use tracing::warn;

use crate::store::ledger::{Op, Pending};
use crate::store::tx::Tx;
use crate::store::{Store, StoreError};

/// Between two tries of what is parked.
pub(super) const RETRY: Duration = Duration::from_millis(100);
/// For so long an operation stays parked; then its caller hears that the storage does not answer.
const PATIENCE: Duration = Duration::from_secs(8);
/// Most operations that are parked at one time; further ones are refused.
const ROOM: usize = 1_024;

/// For so long after the last one was parked, batches are looked over for locked rows.
const EPISODE: Duration = Duration::from_secs(2);

/// What is parked, oldest first.
#[derive(Default)]
pub(super) struct Parked {
    waiting: Vec<(Instant, Pending)>,
    /// When it was last tried.
    tried: Option<Instant>,
    /// When an operation was last parked.
    last: Option<Instant>,
}

impl Parked {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether rows were found locked lately, so that a batch may meet one again.
    pub fn may_be_locked(&self) -> bool {
        self.last.is_some_and(|last| last.elapsed() < EPISODE)
    }

    /// Whether it is time to try again.
    pub fn is_due(&self) -> bool {
        self.tried.is_none_or(|tried| tried.elapsed() >= RETRY)
    }

    /// Parks an operation. `since`: when it was parked first.
    pub fn park(&mut self, since: Instant, pending: Pending) {
        if !self.may_be_locked() {
            warn!("a call's row is locked elsewhere; what concerns that call waits, everything else goes on");
        }
        self.last = Some(Instant::now());
        if self.waiting.len() >= ROOM {
            let _ = pending.answer.send(Err(StoreError::Overloaded));
        } else if since.elapsed() > PATIENCE {
            let _ = pending.answer.send(Err(StoreError::TimedOut));
        } else {
            self.waiting.push((since, pending));
        }
    }

    /// Takes everything out, to be tried again.
    pub fn take(&mut self) -> Vec<(Instant, Pending)> {
        self.tried = Some(Instant::now());
        std::mem::take(&mut self.waiting)
    }
}

/// Says for each operation whether it names a call whose row is locked elsewhere. Waits for no lock.
pub(super) async fn locked(store: &Store, ops: &[&Op]) -> Result<Vec<bool>, StoreError> {
    let mut tx = Tx::begin(store).await?;
    let names: HashSet<&Identifier> = ops.iter().flat_map(|op| op.names()).collect();
    let names: Vec<&str> = names.into_iter().map(Identifier::as_str).collect();
    let named = tx.names(&names).await?;
    let calls_of = |op: &&Op| -> Vec<CallId> {
        let of_name =
            |name: &Identifier| named.iter().find(|(known, _)| known == name.as_str()).map(|(_, call_id)| *call_id);
        op.names().into_iter().filter_map(of_name).chain(op.call_ids()).collect()
    };
    let calls: Vec<Vec<CallId>> = ops.iter().map(calls_of).collect();
    let ids: HashSet<CallId> = calls.iter().flatten().copied().collect();
    let ids: Vec<CallId> = ids.into_iter().collect();
    let held = tx.held_elsewhere(&ids).await?;
    Ok(calls.iter().map(|calls| calls.iter().any(|call_id| held.contains(call_id))).collect())
}
