//! One connection, as its session and the feeds of its subscriptions share it.
//!
//! A feed writes frames into the socket and leaves the rest to the session. Everyone else leaves a signal for the
//! session: to close, to leave, to look at a call that appeared or ended. Signals are bounded by what they speak of:
//! one close reason, one drain notice, one end reason for each subscription, and each identifier that the session waits
//! for once.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use callscope_common::protocol::CloseReason;
use callscope_common::{CallId, Identifier, Seq, Timestamp};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use uuid::Uuid;

use super::frame::{Bytes, FrameBatch};
use super::log_tail::LogTail;
use super::socket::Socket;
use crate::auth::Identity;

/// A WebSocket connection.
#[derive(Debug)]
pub struct Connection {
    /// Chosen at the upgrade.
    pub connection_id: Uuid,
    /// The user, as the token says.
    pub identity: Identity,
    /// When it was upgraded.
    pub connected_at: Timestamp,
    /// The peer's address, if it is known.
    pub remote_addr: Option<SocketAddr>,
    /// How many events were sent.
    pub(super) sent: AtomicU64,
    pub(super) state: Mutex<ConnectionState>,
    waker: AtomicWaker,
    has_work: AtomicBool,
}

/// The state that the session and the feeds share. Its lock is held for a few system calls at most, never across an
/// `.await`. Code that also needs a feed's list of members takes that lock first.
pub(super) struct ConnectionState {
    /// `None` once the session is over.
    pub io: Option<Socket>,
    /// Bytes that were accepted for sending and are not in the socket yet: the rest of a partial write, and the
    /// session's own messages. The session adds no events while anything is in it, and reads no requests while it is
    /// long, so it stays short.
    pub out: VecDeque<Bytes>,
    pub subscriptions: Vec<Subscription>,
    /// Identifiers that the session waits for and that lead to a call now.
    pub appeared: Vec<Identifier>,
    /// Why the session has to close the connection.
    pub close: Option<CloseReason>,
    /// When the client has to leave, from the start of a drain until the client is told.
    pub drain_notice: Option<Box<DrainNotice>>,
    /// The socket failed.
    pub broken: bool,
    /// Bytes that went from `out` into the socket: they show whether a slow peer reads at all.
    pub written: u64,
}

impl std::fmt::Debug for ConnectionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionState")
            .field("out", &self.out.len())
            .field("subscriptions", &self.subscriptions.len())
            .finish()
    }
}

/// A connection's place in the log of one call.
pub(super) struct Subscription {
    /// Unique in its connection.
    pub id: u64,
    pub tail: Arc<LogTail>,
    /// Its place among the members of the call's feed.
    pub member: usize,
    /// The identifiers that the client has used for the call.
    pub names: Vec<Identifier>,
    pub call_sid: String,
    /// Seq of the last event sent.
    pub cursor: Seq,
    /// The head of the log as the client was told it: the subscription does not end before.
    pub confirmed: Seq,
    /// Owed nothing as far as is known: the feed may write to it.
    pub caught_up: bool,
    /// Set once the call was merged or deleted.
    pub end_reason: Option<EndReason>,
}

/// When a client has to leave for another server.
#[derive(Debug, Clone, Copy)]
pub(super) struct DrainNotice {
    /// How long after the notice the client should leave.
    pub after: Duration,
    /// When the connection is closed if the client has not left.
    pub until: Instant,
}

impl DrainNotice {
    /// Time between the moment at which a client should leave and the moment at which its connection is closed.
    pub const GRACE: Duration = Duration::from_secs(1);
}

impl Subscription {
    /// Records that the client was told of `head`: it gets everything up to there before the subscription ends.
    pub fn confirm(&mut self, head: Seq) {
        if head > self.confirmed {
            self.confirmed = head;
            self.caught_up = false;
        }
    }
}

/// Why a subscription ends although its call has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndReason {
    /// The record was absorbed by this one.
    Merged(CallId),
    /// The call was deleted.
    Deleted,
}

/// What came of a feed's attempt to write a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    /// Written straight into the socket.
    Written,
    /// Written, and the subscription is over with it.
    Ended,
    LeftToSession,
    /// The batch has nothing new for the subscription, or the subscription is gone.
    Skipped,
}

/// How far a connection has come.
#[derive(Debug)]
pub struct Progress {
    /// The call SID of each subscription.
    pub call_sids: Vec<String>,
    /// How many events were sent.
    pub sent: u64,
    /// How many events are owed, as far as this process knows.
    pub lag: u64,
}

impl Connection {
    pub(super) fn new(identity: Identity, remote_addr: Option<SocketAddr>, now: Timestamp, io: Socket) -> Self {
        Self {
            connection_id: Uuid::new_v4(),
            identity,
            connected_at: now,
            remote_addr,
            sent: AtomicU64::new(0),
            state: Mutex::new(ConnectionState::new(io)),
            waker: AtomicWaker::new(),
            has_work: AtomicBool::new(false),
        }
    }

    /// Wakes the session, so that it looks at the state.
    pub(super) fn wake(&self) {
        self.has_work.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Returns whether the session was woken since the last call, and registers its waker.
    pub(super) fn poll_work(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.has_work.swap(false, Ordering::SeqCst)
    }

    /// Signals the session to close the connection. The first reason counts.
    pub fn close(&self, reason: CloseReason) {
        self.state.lock().close.get_or_insert(reason);
        self.wake();
    }

    /// Signals the session to tell the client when to leave.
    pub(super) fn notify_drain(&self, notice: DrainNotice) {
        self.state.lock().drain_notice.get_or_insert_with(|| Box::new(notice));
        self.wake();
    }

    /// Signals the session that an identifier it waits for leads to a call now.
    pub(super) fn call_appeared(&self, identifier: Identifier) {
        self.state.lock().appeared.push(identifier);
        self.wake();
    }

    /// Signals the session that the call of a subscription was merged or deleted.
    pub(super) fn end_subscription(&self, id: u64, reason: EndReason) {
        if let Some(subscription) = self.state.lock().subscriptions.iter_mut().find(|s| s.id == id) {
            subscription.end_reason = Some(reason);
            subscription.caught_up = false;
        }
        self.wake();
    }

    /// Leaves a subscription to the session, which compares its cursor with the head.
    pub(super) fn require_catch_up(&self, id: u64) {
        if let Some(subscription) = self.state.lock().subscriptions.iter_mut().find(|s| s.id == id) {
            subscription.caught_up = false;
        }
        self.wake();
    }

    /// Writes a batch straight into the socket if the subscription stands right before it and is owed nothing else;
    /// leaves it to the session otherwise.
    pub(super) fn try_write(&self, id: u64, tail: &Arc<LogTail>, batch: &FrameBatch) -> WriteOutcome {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(at) = state.subscriptions.iter().position(|s| s.id == id) else { return WriteOutcome::Skipped };
        let subscription = &mut state.subscriptions[at];
        if !subscription.caught_up || !Arc::ptr_eq(&subscription.tail, tail) {
            // The session is about to compare the cursor with the head.
            return WriteOutcome::LeftToSession;
        }
        let behind = subscription.cursor < batch.head;
        // A session that read ahead of the feed is owed no event of this batch, but it may learn that the call is over.
        if !behind && batch.events > 0 && !batch.ended {
            return WriteOutcome::Skipped;
        }
        let fits = subscription.cursor == batch.from && state.out.is_empty() && !state.broken;
        let (Some(bytes), true, Some(io)) = (&batch.bytes, fits, &mut state.io) else {
            if behind || batch.ended {
                subscription.caught_up = false;
                self.wake();
                return WriteOutcome::LeftToSession;
            }
            // The batch has only a partial turn: the latest one wins, so a missing one is no loss.
            return WriteOutcome::Skipped;
        };
        match write(io, bytes) {
            Ok(0) if !behind => WriteOutcome::Skipped,
            Ok(0) => {
                subscription.caught_up = false;
                self.wake();
                WriteOutcome::LeftToSession
            }
            Ok(written) => {
                subscription.cursor = batch.head;
                self.sent.fetch_add(batch.events, Ordering::Relaxed);
                if written < bytes.len() {
                    state.out.push_back(bytes.slice(written..));
                    subscription.caught_up = false;
                    self.wake();
                    return WriteOutcome::LeftToSession;
                }
                if batch.ended {
                    state.subscriptions.swap_remove(at);
                    return WriteOutcome::Ended;
                }
                WriteOutcome::Written
            }
            Err(_) => {
                state.broken = true;
                subscription.caught_up = false;
                self.wake();
                WriteOutcome::LeftToSession
            }
        }
    }

    /// How far the connection has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let state = self.state.lock();
        let lag = |s: &Subscription| u64::try_from(s.tail.head() - s.cursor).unwrap_or(0);
        Progress {
            call_sids: state.subscriptions.iter().map(|s| s.call_sid.clone()).collect(),
            sent: self.sent.load(Ordering::Relaxed),
            lag: state.subscriptions.iter().map(lag).sum(),
        }
    }
}

/// Writes what the socket takes now; returns 0 if it takes nothing.
fn write(io: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(io).poll_write(&mut cx, bytes) {
        Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
        Poll::Ready(result) => result,
        Poll::Pending => Ok(0),
    }
}

impl ConnectionState {
    pub fn new(io: Socket) -> Self {
        Self {
            io: Some(io),
            out: VecDeque::new(),
            subscriptions: Vec::new(),
            appeared: Vec::new(),
            close: None,
            drain_notice: None,
            broken: false,
            written: 0,
        }
    }

    /// Writes the bytes in `out`; ready when all of them are in the socket.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        while let Some(front) = self.out.front_mut() {
            match Pin::new(&mut *io).poll_write(cx, front) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.written += written as u64;
                    if written == front.len() {
                        self.out.pop_front();
                    } else {
                        *front = front.slice(written..);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.out.capacity() > 16 {
            self.out = VecDeque::new();
        }
        Poll::Ready(Ok(()))
    }

    pub fn unsent_bytes(&self) -> usize {
        self.out.iter().map(Bytes::len).sum()
    }
}

#[cfg(test)]
mod tests;
