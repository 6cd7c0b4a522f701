//! One connection, as its session and the feeds of its subscriptions share it.
//!
//! A feed writes frames into the socket and leaves the rest to the session. All others leave a signal for the session:
//! to close, to drain, that an awaited call appeared, that a call was merged or deleted. The signals are bounded: one
//! close reason, one drain notice, one end reason for each subscription, and one entry for each awaited identifier.

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
    /// When the connection was upgraded.
    pub connected_at: Timestamp,
    /// The peer's address, if it is known.
    pub remote_addr: Option<SocketAddr>,
    /// How many events were sent.
    pub(super) sent: AtomicU64,
    pub(super) state: Mutex<ConnectionState>,
    waker: AtomicWaker,
    is_woken: AtomicBool,
}

/// The state that the session and the feeds share. Its lock is held for a few system calls at most, never across an
/// `.await`. Code that also needs a feed's members locks those first.
pub(super) struct ConnectionState {
    /// `None` once the session is over.
    pub io: Option<Socket>,
    /// Bytes that are not in the socket yet: the rest of a partial write, and the session's own messages. It stays
    /// short: the session adds no events while anything is in it, and reads no requests while it is long.
    pub out: VecDeque<Bytes>,
    pub subscriptions: Vec<Subscription>,
    /// Awaited identifiers that lead to a call now. The hub adds them, and the session removes them.
    pub appeared: Vec<Identifier>,
    /// Why the session has to close the connection.
    pub close: Option<CloseReason>,
    /// Set at the start of a drain, until the session tells the client.
    pub drain_notice: Option<Box<DrainNotice>>,
    pub socket_failed: bool,
    /// Bytes that went from `out` into the socket so far. They show whether a slow peer reads at all.
    pub flushed_bytes: u64,
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
    pub log_tail: Arc<LogTail>,
    /// Key among the members of the feed that writes `log_tail`.
    pub feed_member_id: usize,
    /// The identifiers that the client has used for the call.
    pub names: Vec<Identifier>,
    pub call_sid: String,
    /// Seq of the last event sent.
    pub cursor: Seq,
    /// Highest head that a confirmation told the client. The subscription does not end before its cursor is there.
    pub confirmed_head: Seq,
    /// Whether the feed may write to it, because it is owed nothing as far as is known.
    pub caught_up: bool,
    /// Set once the call was merged or deleted.
    pub end_reason: Option<EndReason>,
}

/// When a client has to leave for another server.
#[derive(Debug, Clone, Copy)]
pub(super) struct DrainNotice {
    /// How long after the notice the client should leave.
    pub leave_after: Duration,
    /// When the connection is closed if the client has not left.
    pub close_at: Instant,
}

impl DrainNotice {
    /// Time between `leave_after` and `close_at`.
    pub const TIME_TO_LEAVE: Duration = Duration::from_secs(1);
}

impl Subscription {
    /// Records that a confirmation told the client of `head`. If that is new, the session catches the subscription up.
    pub fn raise_confirmed_head(&mut self, head: Seq) {
        if head > self.confirmed_head {
            self.confirmed_head = head;
            self.caught_up = false;
        }
    }
}

/// Why a subscription ends before it has seen the end of its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndReason {
    /// The call record was absorbed by this one.
    Merged(CallId),
    /// The call was deleted.
    Deleted,
}

/// Outcome of a feed's attempt to write a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    /// Written straight into the socket.
    Written,
    /// Written up to the end of the call, so the subscription was removed.
    Ended,
    /// The session has to write it: the subscription is not caught up, or the socket did not take everything.
    LeftToSession,
    /// The batch has nothing new for the subscription, or the subscription is gone.
    Skipped,
}

/// What a connection follows, and how many events it was sent and is owed.
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
            is_woken: AtomicBool::new(false),
        }
    }

    /// Wakes the session, which then looks at the state for signals.
    pub(super) fn wake(&self) {
        self.is_woken.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Registers the session's waker; returns whether the session was woken since the last call.
    pub(super) fn poll_woken(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.is_woken.swap(false, Ordering::SeqCst)
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

    /// Signals the session that an awaited identifier leads to a call now.
    pub(super) fn notify_appeared(&self, identifier: Identifier) {
        self.state.lock().appeared.push(identifier);
        self.wake();
    }

    /// Signals the session that the call of a subscription was merged or deleted.
    pub(super) fn notify_end(&self, id: u64, reason: EndReason) {
        if let Some(subscription) = self.state.lock().subscriptions.iter_mut().find(|s| s.id == id) {
            subscription.end_reason = Some(reason);
            subscription.caught_up = false;
        }
        self.wake();
    }

    /// Signals the session to compare a subscription's cursor with the head.
    pub(super) fn require_catch_up(&self, id: u64) {
        if let Some(subscription) = self.state.lock().subscriptions.iter_mut().find(|s| s.id == id) {
            subscription.caught_up = false;
        }
        self.wake();
    }

    /// Writes a batch straight into the socket if the subscription is caught up and its cursor is right before the
    /// batch. Otherwise the session reads the same events from the log tail or the database.
    pub(super) fn try_write(&self, id: u64, log_tail: &Arc<LogTail>, batch: &FrameBatch) -> WriteOutcome {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(at) = state.subscriptions.iter().position(|s| s.id == id) else { return WriteOutcome::Skipped };
        let subscription = &mut state.subscriptions[at];
        if !subscription.caught_up || !Arc::ptr_eq(&subscription.log_tail, log_tail) {
            // The session compares the cursor with the new head before it marks the subscription as caught up.
            return WriteOutcome::LeftToSession;
        }
        let is_behind = subscription.cursor < batch.head;
        // The session has read ahead of the feed, so the batch has nothing new, unless it says that the call is over.
        if !is_behind && batch.events > 0 && !batch.ended {
            return WriteOutcome::Skipped;
        }
        let may_write = subscription.cursor == batch.from && state.out.is_empty() && !state.socket_failed;
        let (Some(bytes), true, Some(io)) = (&batch.bytes, may_write, &mut state.io) else {
            if is_behind || batch.ended {
                subscription.caught_up = false;
                self.wake();
                return WriteOutcome::LeftToSession;
            }
            // The batch has only partial turns. A lost one does no harm, because the next one replaces it.
            return WriteOutcome::Skipped;
        };
        match write(io, bytes) {
            Ok(0) if !is_behind => WriteOutcome::Skipped,
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
                state.socket_failed = true;
                subscription.caught_up = false;
                self.wake();
                WriteOutcome::LeftToSession
            }
        }
    }

    /// What the connection follows, and how many events it was sent and is owed.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let state = self.state.lock();
        let lag = |s: &Subscription| u64::try_from(s.log_tail.head() - s.cursor).unwrap_or(0);
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
            socket_failed: false,
            flushed_bytes: 0,
        }
    }

    /// Writes the bytes of `out` into the socket; ready when all of them are there.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        while let Some(front) = self.out.front_mut() {
            match Pin::new(&mut *io).poll_write(cx, front) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.flushed_bytes += written as u64;
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
            // Most connections are idle, so none keeps the memory of a long queue.
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
