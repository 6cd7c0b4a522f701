//! The one write path.
//!
//! Operations queue up in a bounded channel; one task takes what has gathered, applies it to a [`Ledger`] and writes it in
//! one transaction (group commit). Only after the commit does each caller hear its outcome, and do the followers hear of
//! the new events, in the order of the log. A repeat is stopped by the unique key of its delivery in the database: another
//! process that took the key meanwhile makes the whole transaction start over and see it.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use callscope_common::protocol::ServerMessage;
use callscope_common::{CallId, Identifier, Timestamp};
use futures_util::FutureExt;
use rocket::tokio::runtime::Handle;
use rocket::tokio::spawn;
use rocket::tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use rocket::tokio::task::JoinHandle;
use rocket::tokio::time::{sleep, timeout};
use tracing::{debug, warn};
use uuid::Uuid;

use super::ledger::{
    Absorbed, Change, Delivery, Key, Ledger, NewAudio, Op, Outcome, Pending, Prior, Sameness, Stop, Touched, Turn,
    UnknownCalls, Wake, key, sid_prefix,
};
use super::retry::{ATTEMPTS, backoff};
use super::tx::{PriorRow, Tx};
use super::{Store, StoreError};

/// Operations that may wait. When that many do, further ones are refused as [`StoreError::Overloaded`].
const QUEUE: usize = 4096;
/// Most operations in one transaction.
const MAX_BATCH: usize = 512;
/// Most bytes of bodies in one transaction, after the first operation.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// How long a transaction waits for more operations, where the one before it had this many or more.
const GATHER_FOR: Duration = Duration::from_millis(1);
const GATHER_FROM: usize = 4;

/// No transaction is tried again after this time: its callers hear that the storage is down.
const RETRY_FOR: Duration = Duration::from_secs(4);

/// For one transaction.
const COMMIT_DEADLINE: Duration = Duration::from_secs(10);

/// For an operation from end to end. Nothing can interrupt a call into SQLite whose disk does not answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// Called after each commit, in the order of the log; must not block.
pub type OnCommit = Box<dyn Fn(Vec<Wake>) + Send + Sync>;

/// The door to the write path; cheap to clone.
#[derive(Clone, Debug)]
pub struct Appender {
    queue: mpsc::Sender<Pending>,
}

/// What an operation came to, or why it did not.
pub type Submitted = Result<Outcome, StoreError>;

impl Appender {
    /// Starts what writes: a task, for SQLite on a thread of its own. It ends when the last handle is gone and the queue is empty.
    #[must_use]
    pub fn start(store: Store, unknown_calls: UnknownCalls, on_commit: OnCommit) -> (Self, JoinHandle<()>) {
        let (queue, operations) = mpsc::channel(QUEUE);
        let is_sqlite = matches!(store, Store::Sqlite { .. });
        let writer = Writer { store, unknown_calls, on_commit };
        let task = if is_sqlite { on_own_thread(writer.run(operations)) } else { spawn(writer.run(operations)) };
        (Self { queue }, task)
    }

    /// Has `op` done; returns once it is durable.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] where the queue is full, [`StoreError::Closing`] where the task is gone,
    /// [`StoreError::TimedOut`] where the database hangs, else what it said after several tries.
    pub async fn submit(&self, op: Op) -> Submitted {
        self.submit_in(op, None).await
    }

    /// The same for an operation that takes up room in memory: it is given back when the operation is done with, however
    /// early the caller goes.
    ///
    /// # Errors
    /// As [`Appender::submit`].
    pub async fn submit_in(&self, op: Op, room: Option<OwnedSemaphorePermit>) -> Submitted {
        let (answer, outcome) = oneshot::channel();
        self.queue.try_send(Pending { op, answer, _room: room }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closing,
        })?;
        match timeout(ANSWER_DEADLINE, outcome).await {
            Ok(outcome) => outcome.unwrap_or(Err(StoreError::Closing)),
            Err(_) => Err(StoreError::TimedOut),
        }
    }

    /// How many operations wait, and how many may.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (QUEUE - self.queue.capacity(), QUEUE)
    }
}

/// Runs a task that waits for disks, where it keeps nobody else from running.
fn on_own_thread(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let (done, ended) = oneshot::channel();
    let runtime = Handle::current();
    std::thread::Builder::new()
        .name("callscope-log".into())
        .spawn(move || {
            runtime.block_on(task);
            let _ = done.send(());
        })
        .expect("a thread");
    spawn(async { ended.await.unwrap_or_default() })
}

struct Writer {
    store: Store,
    unknown_calls: UnknownCalls,
    on_commit: OnCommit,
}

/// Why a transaction did not come about.
enum Failure {
    /// The operation at this place must begin a transaction of its own.
    Split(usize),
    Store(StoreError),
}

impl<E: Into<StoreError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

impl Writer {
    async fn run(self, mut operations: mpsc::Receiver<Pending>) {
        let mut held = None;
        let mut last = 0;
        loop {
            let first = match held.take() {
                Some(pending) => pending,
                None => match operations.recv().await {
                    Some(pending) => pending,
                    None => return,
                },
            };
            self.gather(last, &operations).await;
            let mut bytes = size(&first.op);
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH {
                let Ok(next) = operations.try_recv() else { break };
                bytes += size(&next.op);
                if bytes > MAX_BATCH_BYTES {
                    held = Some(next);
                    break;
                }
                batch.push(next);
            }
            last = batch.len();
            self.commit_all(batch).await;
        }
    }

    /// Waits a moment for those whom the last transaction answered, who are about to ask again: else every other transaction
    /// would hold but the quickest of them. (PostgreSQL has the same as `commit_delay`.)
    async fn gather(&self, last: usize, operations: &mpsc::Receiver<Pending>) {
        if last < GATHER_FROM {
            return;
        }
        let began = Instant::now();
        while operations.len() + 1 < last && !operations.is_closed() && began.elapsed() < GATHER_FOR {
            match self.store {
                // On a thread of its own, where a sleep may be shorter than the runtime's clock can tell.
                Store::Sqlite { .. } => std::thread::sleep(GATHER_FOR / 8),
                Store::Postgres { .. } => sleep(GATHER_FOR).await,
            }
        }
    }

    /// Commits a batch, in as few transactions as it takes.
    async fn commit_all(&self, batch: Vec<Pending>) {
        let mut rest = std::collections::VecDeque::from([batch]);
        while let Some(mut batch) = rest.pop_front() {
            let ops: Vec<&Op> = batch.iter().map(|pending| &pending.op).collect();
            match self.commit_with_retries(&ops).await {
                Ok(outcomes) => {
                    for (pending, outcome) in batch.into_iter().zip(outcomes) {
                        // A caller that gave up waiting needs no answer.
                        let _ = pending.answer.send(Ok(outcome));
                    }
                }
                Err(Failure::Split(at)) => {
                    let mut own = batch.split_off(at);
                    let after = own.split_off(1);
                    for part in [after, own, batch] {
                        if !part.is_empty() {
                            rest.push_front(part);
                        }
                    }
                }
                // One operation that the database will not take must not take the others with it.
                Err(Failure::Store(error))
                    if batch.len() > 1
                        && !error.is_outage()
                        && (!error.is_transient()
                            || error.is_of_one_row()
                            || matches!(error, StoreError::Conflict)) =>
                {
                    warn!(%error, operations = batch.len(), "a batch failed, trying its operations one by one");
                    for pending in batch.into_iter().rev() {
                        rest.push_front(vec![pending]);
                    }
                }
                Err(Failure::Store(error)) => fail(batch, error),
            }
        }
    }

    async fn commit_with_retries(&self, ops: &[&Op]) -> Result<Vec<Outcome>, Failure> {
        let began = Instant::now();
        let mut attempt = 0;
        loop {
            // A rule that panics over one operation must not end the writing of all others.
            let committed =
                AssertUnwindSafe(timeout(COMMIT_DEADLINE, self.commit(ops, attempt > 0))).catch_unwind().await;
            let committed = committed.map(|in_time| in_time.unwrap_or(Err(Failure::Store(StoreError::TimedOut))));
            match committed.unwrap_or(Err(Failure::Store(StoreError::Damaged("rule of the log")))) {
                Err(Failure::Store(error))
                    if error.is_transient() && attempt + 1 < ATTEMPTS && began.elapsed() < RETRY_FOR =>
                {
                    attempt += 1;
                    debug!(%error, attempt, "a transaction is tried again");
                    sleep(backoff(attempt)).await;
                }
                other => return other,
            }
        }
    }

    /// One transaction: load, apply, write, commit, wake. `again`: an earlier try may have come through unheard.
    async fn commit(&self, ops: &[&Op], again: bool) -> Result<Vec<Outcome>, Failure> {
        let mut tx = Tx::begin(&self.store).await?;
        let now = Timestamp::from_system_time(SystemTime::now());
        let mut ledger = Ledger::new(now, self.unknown_calls);
        load(&mut tx, &mut ledger, ops).await?;
        if again {
            let ids: Vec<Uuid> =
                ops.iter().filter_map(|op| op.delivery()).map(|delivery| delivery.delivery_id).collect();
            ledger.committed = tx.answers(&ids).await?.into_iter().collect();
        }
        let outcomes = apply(&mut tx, &mut ledger, ops).await?;
        write(&mut tx, &ledger, ops).await?;
        tx.commit().await?;
        (self.on_commit)(ledger.into_wakes());
        Ok(outcomes)
    }
}

async fn apply(tx: &mut Tx, ledger: &mut Ledger, ops: &[&Op]) -> Result<Vec<Outcome>, Failure> {
    let mut outcomes = Vec::with_capacity(ops.len());
    for (at, op) in ops.iter().enumerate() {
        // A deletion frees names that the rest of a batch may want.
        if matches!(op, Op::Delete(_)) && ops.len() > 1 {
            return Err(Failure::Split(at));
        }
        match ledger.apply(op) {
            Ok(outcome) => outcomes.push(outcome),
            Err(Stop::NeedsMerge(_)) if ops.len() > 1 => return Err(Failure::Split(at)),
            Err(Stop::NeedsMerge(records)) => {
                merge(tx, ledger, &records, op).await?;
                outcomes.push(ledger.apply(op).map_err(|_| StoreError::Damaged("merge"))?);
            }
            Err(Stop::OutOfIds) => return Err(StoreError::Damaged("count of turns").into()),
        }
    }
    Ok(outcomes)
}

async fn merge(tx: &mut Tx, ledger: &mut Ledger, records: &[CallId], op: &Op) -> Result<(), StoreError> {
    let Some(survivor) = ledger.survivor(records) else { return Err(StoreError::Damaged("merge")) };
    for call_id in records {
        if let Some((result, _)) = tx.result(*call_id).await? {
            ledger.call(*call_id).result = Some(result.into());
        }
    }
    for call_id in records.iter().copied().filter(|call_id| *call_id != survivor) {
        let log = tx.log(call_id).await?;
        let ids = tx.transcription_ids(i64::try_from(log.len()).unwrap_or(i64::MAX)).await?;
        let events = log
            .into_iter()
            .map(|(frame, delivery_id)| {
                let message = ServerMessage::parse(&frame).map_err(|_| StoreError::Damaged("event"))?;
                Ok((message, delivery_id))
            })
            .collect::<Result<_, StoreError>>()?;
        let names = tx.names_of(call_id).await?.iter().filter_map(|name| Identifier::parse(name).ok()).collect();
        let transcript = tx.result(call_id).await?.and_then(|(_, transcript)| transcript);
        let spare = std::mem::replace(&mut ledger.transcription_ids, ids.into_iter());
        ledger
            .absorb(survivor, Absorbed { call_id, events, names, transcript })
            .map_err(|_| StoreError::Damaged("count of turns"))?;
        ledger.transcription_ids = spare;
        // The absorbed record's turns are the survivor's now: a repeat of one of them is still a repeat.
        if let Some(hash) = op.delivery().and_then(Delivery::turn_hash)
            && let Some(mut prior) = ledger.prior.get(&Sameness::turn_key(call_id, hash)).cloned()
        {
            prior.call_id = Some(survivor);
            ledger.prior.entry(Sameness::turn_key(survivor, hash)).or_insert(prior);
        }
    }
    Ok(())
}

/// Loads what the operations name: calls (locked), earlier deliveries, taken sids, ids for turns.
async fn load(tx: &mut Tx, ledger: &mut Ledger, ops: &[&Op]) -> Result<(), StoreError> {
    let names: HashSet<&Identifier> = ops.iter().flat_map(|op| op.names()).collect();
    let names: Vec<&str> = names.into_iter().map(Identifier::as_str).collect();
    let mut ids: HashSet<CallId> = ops.iter().filter_map(|op| op.call_id()).collect();
    for (name, call_id) in tx.names(&names).await? {
        ids.insert(call_id);
        ledger.names.insert(Identifier::parse(&name).map_err(|_| StoreError::Damaged("identifier"))?, call_id);
    }
    load_calls(tx, ledger, ids).await?;
    for op in ops {
        if let Op::Patch(patch) = op
            && let Some(call_id) = ledger.named(&patch.id)
            && let Some((result, _)) = tx.result(call_id).await?
        {
            ledger.call(call_id).result = Some(result.into());
        }
    }
    load_prior(tx, ledger, ops).await?;
    // Only a name that no call has yet can lead to a new call.
    let is_new = |op: &&&Op| op.names().iter().any(|name| !ledger.names.contains_key(*name)) || op.names().is_empty();
    let prefixes: HashSet<String> = ops.iter().filter(is_new).filter_map(|op| op.sid_prefix()).collect();
    for prefix in prefixes {
        ledger.taken_sids.extend(tx.taken_sids(&prefix).await?);
    }
    let turns: usize = ops.iter().map(|op| op.turns()).sum();
    ledger.transcription_ids = tx.transcription_ids(i64::try_from(turns).unwrap_or(i64::MAX)).await?.into_iter();
    Ok(())
}

async fn load_calls(tx: &mut Tx, ledger: &mut Ledger, ids: HashSet<CallId>) -> Result<(), StoreError> {
    let mut ids: Vec<CallId> = ids.into_iter().collect();
    // Signposts lead on; each hop loads what the one before it named.
    while !ids.is_empty() {
        let mut next = Vec::new();
        for row in tx.lock_calls(&ids).await? {
            match row.merged_into {
                Some(into) => {
                    let signpost =
                        Identifier::parse(&row.call_id.to_string()).map_err(|_| StoreError::Damaged("call"))?;
                    ledger.names.insert(signpost, into);
                    if !ledger.calls.contains_key(&into) {
                        next.push(into);
                    }
                }
                None => {
                    ledger.calls.insert(row.call_id, row.try_into()?);
                }
            }
        }
        ids = next;
    }
    // A name whose call is gone was read before another process moved it.
    if ledger.names.values().any(|call_id| !ledger.calls.contains_key(call_id)) {
        return Err(StoreError::Conflict);
    }
    Ok(())
}

async fn load_prior(tx: &mut Tx, ledger: &mut Ledger, ops: &[&Op]) -> Result<(), StoreError> {
    let mut keys: Vec<Key> = Vec::new();
    for delivery in ops.iter().filter_map(|op| op.delivery()) {
        keys.extend(delivery.sameness.keys());
        // Of partials too: one that comes after its turn is final is not shown.
        if let Change::Turn(Turn { names, turn_id: Some(turn_id), .. }) = &delivery.change {
            let hash = turn_hash(turn_id);
            let calls = names.iter().filter_map(|name| ledger.names.get(name));
            keys.extend(calls.map(|call_id| Sameness::turn_key(*call_id, &hash)));
        }
    }
    if keys.is_empty() {
        return Ok(());
    }
    for PriorRow { delivery_id, key, body_hash, call_id, answer } in tx.prior(&keys).await? {
        ledger.prior.insert(key, Prior { delivery_id, body_hash, call_id, answer });
    }
    Ok(())
}

async fn write(tx: &mut Tx, ledger: &Ledger, ops: &[&Op]) -> Result<(), StoreError> {
    let writes = &ledger.writes;
    for merge in &writes.merges {
        tx.merge(merge.from, merge.into, merge.moves_audio).await?;
    }
    let changed = ledger.calls.values().filter(|call| call.touched != Touched::Nothing);
    let (new, old): (Vec<_>, Vec<_>) = changed.partition(|call| call.is_new);
    let (heads, old): (Vec<_>, Vec<_>) = old.into_iter().partition(|call| call.touched == Touched::Head);
    if !new.is_empty() {
        tx.insert_calls(&new).await?;
    }
    // In one order everywhere, so that two servers never wait for each other's names.
    let mut names = writes.names.clone();
    names.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    if !names.is_empty() && tx.insert_names(&names).await? < names.len() as u64 {
        return Err(StoreError::Conflict);
    }
    if !heads.is_empty() {
        tx.update_heads(&heads).await?;
    }
    if !old.is_empty() {
        tx.update_calls(&old).await?;
    }
    if !writes.events.is_empty() {
        tx.insert_events(&writes.events, ledger.now.as_micros()).await?;
    }
    for result in &writes.results {
        tx.put_result(result).await?;
    }
    let delivery =
        |id: Uuid| ops.iter().filter_map(|op| op.delivery()).find(move |delivery| delivery.delivery_id == id);
    for NewAudio { call_id, delivery_id } in &writes.audio {
        if let Some(Change::Audio { bytes, .. }) = delivery(*delivery_id).map(|delivery| &delivery.change) {
            tx.put_audio(*call_id, bytes, ledger.now.as_micros()).await?;
        }
    }
    // Rows come in the order of the operations, so one walk finds each row's delivery.
    let mut deliveries = ops.iter().filter_map(|op| op.delivery());
    let rows: Vec<_> = writes
        .deliveries
        .iter()
        .filter_map(|row| deliveries.find(|delivery| delivery.delivery_id == row.delivery_id).map(|found| (row, found)))
        .collect();
    if !rows.is_empty() && tx.insert_deliveries(&rows).await? < rows.len() as u64 {
        return Err(StoreError::Conflict);
    }
    for call_id in &writes.deleted {
        tx.delete(*call_id).await?;
    }
    for beat in &writes.beats {
        tx.put_beat(beat).await?;
    }
    for node in &writes.left {
        tx.remove_node(node).await?;
    }
    for range in &writes.lightened {
        tx.lighten(*range).await?;
    }
    Ok(())
}

fn fail(batch: Vec<Pending>, error: StoreError) {
    warn!(%error, operations = batch.len(), "a write failed");
    let error = Arc::new(error);
    for pending in batch {
        let _ = pending.answer.send(Err(StoreError::Failed(Arc::clone(&error))));
    }
}

fn size(op: &Op) -> usize {
    op.delivery().map_or(0, |delivery| delivery.body.len())
}

impl Op {
    fn delivery(&self) -> Option<&Delivery> {
        match self {
            Self::Deliver(delivery) => Some(delivery),
            _ => None,
        }
    }

    /// Every identifier it names.
    fn names(&self) -> Vec<&Identifier> {
        match self {
            Self::Deliver(delivery) => delivery.change.names().map(|names| names.iter().collect()).unwrap_or_default(),
            Self::Register(register) => register.call.call_sid.iter().chain(&register.call.conversation_id).collect(),
            Self::Patch(patch) => {
                let given =
                    patch.patch.call_sid.iter().chain(&patch.patch.conversation_id).chain(&patch.patch.identifiers);
                given.chain([&patch.id]).collect()
            }
            Self::Delete(id) => vec![id],
            Self::Beat(_) | Self::Leave(_) | Self::Lighten(_) => Vec::new(),
        }
    }

    /// The call it names by its own id.
    fn call_id(&self) -> Option<CallId> {
        match self {
            Self::Deliver(_) | Self::Beat(_) | Self::Leave(_) | Self::Lighten(_) => None,
            Self::Register(register) => Some(register.call_id),
            Self::Patch(patch) => patch.id.as_call_id(),
            Self::Delete(id) => id.as_call_id(),
        }
    }

    /// How the sid begins that it may have to make up.
    fn sid_prefix(&self) -> Option<String> {
        match self {
            Self::Deliver(delivery) => delivery.change.names().map(|_| sid_prefix(None, delivery.received_at)),
            Self::Register(register) if register.call.call_sid.is_none() => {
                Some(sid_prefix(register.call.subject.as_deref(), register.at))
            }
            _ => None,
        }
    }

    /// How many turns it may append.
    fn turns(&self) -> usize {
        match self.delivery().map(|delivery| &delivery.change) {
            Some(Change::Turn(turn)) => usize::from(turn.is_final),
            Some(Change::Result(result)) => result.turns.len(),
            _ => 0,
        }
    }
}

impl Change {
    fn names(&self) -> Option<&super::ledger::Names> {
        match self {
            Self::Turn(turn) => Some(&turn.names),
            Self::Result(result) => Some(&result.names),
            Self::Failure(failure) => Some(&failure.names),
            Self::Audio { names, .. } | Self::Ignored { names, .. } => Some(names),
            Self::Rejected { .. } => None,
        }
    }
}

impl Delivery {
    /// The hash of its `turn_id`, if it has one.
    pub(super) fn turn_hash(&self) -> Option<&Key> {
        match &self.sameness {
            Sameness::Turn(hash) => Some(hash),
            _ => None,
        }
    }

    /// How long a caller should wait before it tries again, where the store is not to be had.
    pub const RETRY_AFTER: Duration = Duration::from_secs(1);
}

/// The hash under which a `turn_id` is kept.
#[must_use]
pub fn turn_hash(turn_id: &str) -> Key {
    key(&[turn_id.as_bytes()])
}
