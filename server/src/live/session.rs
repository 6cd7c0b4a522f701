//! The task of one connection: it reads requests, catches subscriptions up, keeps deadlines and closes in order.
//!
//! It sleeps unless the client sent something, a deadline passed, or a signal was left in the [`Connection`]. Only this
//! module knows the WebSocket library.

mod catch_up;
mod codec;
mod deliveries;
#[cfg(feature = "testing")]
pub mod echo;
#[cfg(feature = "testing")]
pub mod frames;
mod io;
mod read_retries;
mod requests;
mod signals;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use callscope_common::protocol::{CloseReason, MAX_CLIENT_MESSAGE, Subscribe};
use callscope_common::{CallId, Identifier, Seq, Timestamp};
use tokio::time::{Sleep, sleep_until, timeout};
use tracing::info;
use tungstenite::Message;

use super::connection::{Connection, DrainNotice, Subscription};
use super::hub::Hub;
use super::log_tail::LogTail;
use super::rate_limit::RateLimit;
use super::socket::Socket;
use crate::auth::Identity;
use crate::clock;
use crate::policy::Timing;
use crate::store::{Store, StoreError};
use codec::{Codec, SessionEvent};
use read_retries::{ReadRetries, Reader};

/// Time for the peer to take the close frame and answer it.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Time for the storage to answer a read.
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// Bytes of the read buffer of an idle connection; it grows with the frames that arrive.
const READ_BUFFER: usize = 128;
/// Writes to the socket before a session looks at everything else.
const MAX_WRITES_IN_A_ROW: usize = 32;
/// While more bytes than this wait to be sent, no request is read.
const MAX_UNSENT_BYTES: usize = 64 * 1024;

/// A subscription that waits for its call to appear.
struct PendingSubscription {
    request: Subscribe,
    /// When it was requested: without history it begins there.
    since: Timestamp,
}

/// The state of a connection's task. There are thousands, most of them idle, so rarely used fields are boxed.
pub struct Session {
    connection: Arc<Connection>,
    hub: Hub,
    store: Store,
    timing: Arc<Timing>,
    codec: Codec,
    /// Subscriptions that wait for their call to appear.
    pending: BTreeMap<Identifier, PendingSubscription>,
    next_subscription: u64,
    limit: RateLimit,
    last_pong: Instant,
    next_ping: Instant,
    expires: Option<Instant>,
    /// Failed reads, at most one for each subscription.
    read_retries: ReadRetries,
    /// When the connection is closed if the client has not left for another server.
    drain_deadline: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// Events per database read, derived from the size of the last ones.
    page: u16,
    /// Rotates over the subscriptions that are owed something.
    round: u32,
    /// More is owed and the socket may take it, after a look at everything else.
    has_more: bool,
    /// The subscription to deliveries, if there is one.
    deliveries: Option<Box<deliveries::DeliveriesSubscription>>,
}

impl Session {
    /// Takes over an upgraded socket.
    #[must_use]
    pub fn new(
        io: impl Into<Socket>,
        identity: Identity,
        remote_addr: Option<SocketAddr>,
        hub: Hub,
        store: Store,
        timing: Arc<Timing>,
    ) -> Self {
        let now = Instant::now();
        let next_ping = now + timing.ping_interval;
        let clock = clock::now();
        let left = identity.expires.as_micros().saturating_sub(clock.as_micros());
        let expires = now.checked_add(Duration::from_micros(u64::try_from(left).unwrap_or(0)));
        let connection = Arc::new(Connection::new(identity, remote_addr, clock, io.into()));
        hub.add(Arc::clone(&connection));
        if hub.is_draining() {
            // Upgraded while the drain began, so no one else will notify it.
            connection.notify_drain(DrainNotice { after: Duration::ZERO, until: now + DrainNotice::GRACE });
        }
        Self {
            connection,
            hub,
            store,
            timing,
            codec: Codec::new(MAX_CLIENT_MESSAGE),
            pending: BTreeMap::new(),
            next_subscription: 0,
            limit: RateLimit::new(now),
            last_pong: now,
            next_ping,
            expires,
            read_retries: ReadRetries::default(),
            drain_deadline: None,
            timer: Box::pin(sleep_until(next_ping.into())),
            page: 64,
            round: 0,
            has_more: false,
            deliveries: None,
        }
    }

    /// Serves the connection until it ends.
    ///
    /// Rare and long work (reading the database, closing) is boxed where it is awaited: a task is as large as the
    /// largest future that it may wait for, and thousands wait only for their client.
    pub async fn run(mut self: Box<Self>) {
        let id = self.connection.connection_id;
        info!(connection_id = %id, remote = ?self.connection.remote_addr, user = ?self.connection.identity.username, "connected");
        let reason = self.serve().await;
        if let Some(reason) = reason {
            Box::pin(self.close(reason)).await;
        }
        let sent = self.connection.sent.load(Ordering::Relaxed);
        info!(connection_id = %id, sent, close = ?reason.map(CloseReason::code), "disconnected");
    }

    /// Runs until the peer is gone (`None`) or the connection has to be closed.
    async fn serve(&mut self) -> Option<CloseReason> {
        loop {
            if let Some(reason) = self.handle_signals().await {
                return Some(reason);
            }
            if self.deliveries.is_some()
                && let Some(reason) = Box::pin(self.send_deliveries()).await
            {
                return Some(reason);
            }
            if self.catch_up().await.is_err() {
                return None;
            }
            let now = Instant::now();
            if self.drain_deadline.is_some_and(|until| until <= now) {
                return Some(CloseReason::GoingAway);
            }
            self.set_timer(now);
            match self.next().await {
                SessionEvent::Work => {}
                SessionEvent::Timer => {
                    if let Some(reason) = self.on_timer(Instant::now()) {
                        return Some(reason);
                    }
                }
                SessionEvent::Message(Message::Close(_)) => {
                    Box::pin(self.answer_close()).await;
                    return None;
                }
                SessionEvent::Message(message) => {
                    if let Some(reason) = Box::pin(self.on_message(message)).await {
                        return Some(reason);
                    }
                }
                SessionEvent::Gone => return None,
                SessionEvent::Close(reason) => return Some(reason),
            }
        }
    }

    /// Follows a call after `cursor`. The subscription is not caught up yet.
    fn follow(&mut self, call_id: CallId, names: Vec<Identifier>, call_sid: String, cursor: Seq) -> Arc<LogTail> {
        let id = self.next_subscription;
        self.next_subscription += 1;
        let (tail, member) = self.hub.join(call_id, &self.connection, id);
        let subscription = Subscription {
            id,
            tail: Arc::clone(&tail),
            member,
            names,
            call_sid,
            cursor,
            confirmed: 0,
            caught_up: false,
            end_reason: None,
        };
        let mut state = self.connection.state.lock();
        // Most connections have one, and a vector would take room for four.
        if state.subscriptions.is_empty() {
            state.subscriptions.reserve_exact(1);
        }
        state.subscriptions.push(subscription);
        drop(state);
        tail
    }

    /// Removes a subscription from the connection.
    fn take(&self, is_it: impl Fn(&Subscription) -> bool) -> Option<Subscription> {
        let mut state = self.connection.state.lock();
        let at = state.subscriptions.iter().position(is_it)?;
        Some(state.subscriptions.swap_remove(at))
    }

    fn set_timer(&mut self, now: Instant) {
        let next = [
            Some(self.next_ping),
            Some(self.last_pong + self.timing.pong_timeout),
            self.expires,
            self.codec.blocked.map(|(since, _)| since + self.timing.write_deadline),
            self.read_retries.next(now),
            self.drain_deadline,
            self.next_look(now),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(now);
        if self.timer.deadline() != next.into() {
            self.timer.as_mut().reset(next.into());
        }
    }

    fn on_timer(&mut self, now: Instant) -> Option<CloseReason> {
        let written = self.connection.state.lock().written;
        if let Some(blocked) = self.codec.blocked.as_mut().filter(|(_, before)| *before != written) {
            // The peer has taken something since.
            *blocked = (now, written);
        }
        // The monotonic clock stands still while the machine sleeps; the wall clock may have been set.
        let clock = clock::now();
        if self.expires.is_some_and(|expires| expires <= now) || self.connection.identity.expires <= clock {
            return Some(CloseReason::TokenExpired);
        }
        let is_sending = self.codec.blocked.is_some_and(|(since, _)| now < since + self.timing.write_deadline);
        if now >= self.last_pong + self.timing.pong_timeout {
            if !is_sending {
                return Some(CloseReason::PongTimeout);
            }
            // The peer takes a large frame slowly. The ping waits behind it, so it cannot be answered yet.
            self.last_pong = now;
        }
        if self.codec.blocked.is_some_and(|(since, _)| now >= since + self.timing.write_deadline) {
            return Some(CloseReason::TooSlow);
        }
        if self.read_retries.longest_failure(now) >= self.timing.storage_deadline {
            return Some(CloseReason::StorageDown);
        }
        if now >= self.next_ping {
            self.next_ping = now + self.timing.ping_interval;
            self.ping();
        }
        None
    }
}

/// A read without an answer counts as failed, because the session has other things to do.
async fn in_time<T>(read: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(READ_DEADLINE, read).await.unwrap_or(Err(StoreError::TimedOut))
}

/// However the task ends, nothing of the connection stays behind.
impl Drop for Session {
    fn drop(&mut self) {
        let subscriptions = {
            let mut state = self.connection.state.lock();
            state.io = None;
            state.out.clear();
            std::mem::take(&mut state.subscriptions)
        };
        for subscription in subscriptions {
            self.hub.leave(&subscription.tail, subscription.member);
        }
        for identifier in self.pending.keys() {
            self.hub.remove_waiter(identifier, &self.connection);
        }
        if self.deliveries.is_some() {
            self.end_deliveries();
        }
        self.hub.remove(self.connection.connection_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of the task and the session without what they point to.
    #[test]
    fn a_session_that_waits_is_small() {
        fn size_of_task<F>(_: impl FnOnce(Box<Session>) -> F) -> usize {
            size_of::<F>()
        }
        let (task, session) = (size_of_task(Session::run), size_of::<Session>());
        assert!(task <= 320, "the task takes {task} bytes");
        assert!(session <= 512, "the session takes {session} bytes");
    }
}
