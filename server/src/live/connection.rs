//! One connection, as its session, its feeds and the admin see it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use callscope_common::api::ConnectionView;
use callscope_common::protocol::CloseReason;
use callscope_common::{CallId, Identifier, Seq, Timestamp};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use uuid::Uuid;

use super::feed::{Feed, FrameBatch};
use super::frame::Bytes;
use super::socket::Socket;
use crate::auth::Identity;

/// A WebSocket connection.
#[derive(Debug)]
pub struct Connection {
    /// Made at the upgrade.
    pub connection_id: Uuid,
    /// Whose it is.
    pub identity: Identity,
    /// When it was upgraded.
    pub connected_at: Timestamp,
    /// The peer.
    pub remote_addr: Option<SocketAddr>,
    /// Events sent.
    pub(super) sent: AtomicU64,
    pub(super) wire: Mutex<Wire>,
    waker: AtomicWaker,
    has_work: AtomicBool,
}

/// What the session and the feeds share. Its lock is held for a few system calls at most, never across an `.await`; whoever
/// needs a feed's member list too takes that first.
pub(super) struct Wire {
    /// `None` once the session is over.
    pub io: Option<Socket>,
    /// Accepted for sending and not yet in the socket: what a partial write left over, the session's own messages. The
    /// session adds no events while anything is in it, and reads no requests while it is long, so it stays short.
    pub out: VecDeque<Bytes>,
    pub subscriptions: Vec<Subscription>,
    /// Identifiers waited for that name a call now.
    pub appeared: Vec<Identifier>,
    /// Why somebody else wants the connection closed.
    pub close: Option<CloseReason>,
    /// When the client shall leave, once a drain began and until it is told.
    pub drain_notice: Option<Box<DrainNotice>>,
    /// The socket failed.
    pub broken: bool,
    /// Bytes that went into the socket from `out`: shows whether a slow peer reads at all.
    pub written: u64,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("out", &self.out.len()).field("subscriptions", &self.subscriptions.len()).finish()
    }
}

/// A connection's interest in a call.
pub(super) struct Subscription {
    /// Unique in its connection.
    pub id: u64,
    pub feed: Arc<Feed>,
    /// Its place in the feed's member list.
    pub member: usize,
    /// The names the client used.
    pub names: Vec<Identifier>,
    pub call_sid: String,
    /// Seq of the last event sent.
    pub cursor: Seq,
    /// The log's head as the client was told it: the subscription does not end before.
    pub confirmed: Seq,
    /// Owed nothing as far as is known: the feed may write to it.
    pub caught_up: bool,
    /// What became of the call itself.
    pub end_reason: Option<EndReason>,
}

/// When a client shall leave for another server.
#[derive(Debug, Clone, Copy)]
pub(super) struct DrainNotice {
    /// So long after it is told.
    pub after: Duration,
    /// If it has not left by then, the connection is closed.
    pub until: Instant,
}

impl DrainNotice {
    /// For a client whose turn has come to be gone by itself.
    pub const GRACE: Duration = Duration::from_secs(1);
}

impl Subscription {
    /// The client is told that the log reaches `head`: it gets all that before the subscription ends.
    pub fn confirm(&mut self, head: Seq) {
        if head > self.confirmed {
            self.confirmed = head;
            self.caught_up = false;
        }
    }
}

/// What may end a subscription from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Its record was absorbed by this one.
    Merged(CallId),
    /// Its call was deleted.
    Deleted,
}

/// What became of a feed's offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    /// Written straight into the socket.
    Written,
    /// Written, and the subscription is over with it.
    Ended,
    /// Left to the session.
    LeftToSession,
    /// Not for this subscription any more, or nothing new to it.
    Skipped,
}

impl Connection {
    pub(super) fn new(identity: Identity, remote_addr: Option<SocketAddr>, now: Timestamp, io: Socket) -> Self {
        Self {
            connection_id: Uuid::new_v4(),
            identity,
            connected_at: now,
            remote_addr,
            sent: AtomicU64::new(0),
            wire: Mutex::new(Wire::new(io)),
            waker: AtomicWaker::new(),
            has_work: AtomicBool::new(false),
        }
    }

    /// Tells the session to look at the wire.
    pub(super) fn wake(&self) {
        self.has_work.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Whether there is something to look at; remembers who asks.
    pub(super) fn poll_work(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.has_work.swap(false, Ordering::SeqCst)
    }

    /// Has the session close the connection.
    pub fn close(&self, reason: CloseReason) {
        self.wire.lock().close.get_or_insert(reason);
        self.wake();
    }

    /// Has the session tell the client to leave.
    pub(super) fn notify_drain(&self, notice: DrainNotice) {
        self.wire.lock().drain_notice.get_or_insert_with(|| Box::new(notice));
        self.wake();
    }

    pub(super) fn call_appeared(&self, identifier: Identifier) {
        self.wire.lock().appeared.push(identifier);
        self.wake();
    }

    /// Tells a subscription what became of its call.
    pub(super) fn end_subscription(&self, id: u64, reason: EndReason) {
        if let Some(subscription) = self.wire.lock().subscriptions.iter_mut().find(|s| s.id == id) {
            subscription.end_reason = Some(reason);
            subscription.caught_up = false;
        }
        self.wake();
    }

    /// Has the session look at a subscription itself.
    pub(super) fn require_catch_up(&self, id: u64) {
        if let Some(subscription) = self.wire.lock().subscriptions.iter_mut().find(|s| s.id == id) {
            subscription.caught_up = false;
        }
        self.wake();
    }

    /// Takes a feed's batch: writes it straight into the socket where the subscription stands right before it and owes
    /// nothing, else leaves it to the session.
    pub(super) fn try_write(&self, id: u64, feed: &Arc<Feed>, batch: &FrameBatch) -> WriteOutcome {
        let mut wire = self.wire.lock();
        let wire = &mut *wire;
        let Some(at) = wire.subscriptions.iter().position(|s| s.id == id) else { return WriteOutcome::Skipped };
        let subscription = &mut wire.subscriptions[at];
        if !subscription.caught_up || !Arc::ptr_eq(&subscription.feed, feed) {
            // Its session is about to look at the head itself.
            return WriteOutcome::LeftToSession;
        }
        let behind = subscription.cursor < batch.head;
        // Who read ahead of the feed is owed nothing by this batch, but may hear from it that the call is over.
        if !behind && batch.events > 0 && !batch.ended {
            return WriteOutcome::Skipped;
        }
        let fits = subscription.cursor == batch.from && wire.out.is_empty() && !wire.broken;
        let (Some(bytes), true, Some(io)) = (&batch.bytes, fits, &mut wire.io) else {
            if behind || batch.ended {
                subscription.caught_up = false;
                self.wake();
                return WriteOutcome::LeftToSession;
            }
            // Only a partial: the latest wins, so missing one is no loss.
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
                    wire.out.push_back(bytes.slice(written..));
                    subscription.caught_up = false;
                    self.wake();
                    return WriteOutcome::LeftToSession;
                }
                if batch.ended {
                    wire.subscriptions.swap_remove(at);
                    return WriteOutcome::Ended;
                }
                WriteOutcome::Written
            }
            Err(_) => {
                wire.broken = true;
                subscription.caught_up = false;
                self.wake();
                WriteOutcome::LeftToSession
            }
        }
    }

    /// The connection as the admin sees it.
    #[must_use]
    pub fn view(&self, node: &str) -> ConnectionView {
        let wire = self.wire.lock();
        let lag = |s: &Subscription| u64::try_from(s.feed.head() - s.cursor).unwrap_or(0);
        ConnectionView {
            connection_id: self.connection_id,
            user_id: self.identity.user_id().to_owned(),
            username: self.identity.username.clone(),
            role: self.identity.role.as_str().to_owned(),
            connected_at: self.connected_at,
            remote_addr: self.remote_addr.map(|addr| addr.to_string()).unwrap_or_default(),
            subscribed_calls: wire.subscriptions.iter().map(|s| s.call_sid.clone()).collect(),
            sent: self.sent.load(Ordering::Relaxed),
            lag: wire.subscriptions.iter().map(lag).sum(),
            node: node.to_owned(),
        }
    }
}

/// Writes what the socket takes at once; 0 where it takes nothing now.
fn write(io: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(io).poll_write(&mut cx, bytes) {
        Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
        Poll::Ready(result) => result,
        Poll::Pending => Ok(0),
    }
}

impl Wire {
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

    /// Writes out what is waiting; ready when all of it is in the socket.
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

    /// Bytes that wait.
    pub fn unsent_bytes(&self) -> usize {
        self.out.iter().map(Bytes::len).sum()
    }
}

#[cfg(test)]
mod tests;
