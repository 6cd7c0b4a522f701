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

use callscope_common::protocol::{CloseReason, MAX_CLIENT_MESSAGE};
use callscope_common::{CallId, Identifier, Seq};
use tokio::time::{Sleep, sleep_until, timeout};
use tracing::{field, info};
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
use requests::SubscribeAttempt;

/// Timeout for the peer to read the close frame and answer it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of one read from the storage.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Initial size of the read buffer. It is small because most connections are idle, and grows with longer frames.
const READ_BUFFER_BYTES: usize = 128;
/// Most writes to the socket before the session handles requests, deadlines and signals.
const MAX_CONSECUTIVE_WRITES: usize = 32;
/// While more bytes than this wait to be sent, no request is read.
const MAX_UNSENT_BYTES: usize = 64 * 1024;

/// The state of a connection's task. There are thousands, most of them idle, so rarely used fields are boxed.
pub struct Session {
    connection: Arc<Connection>,
    hub: Hub,
    store: Store,
    timing: Arc<Timing>,
    codec: Codec,
    /// Subscriptions that wait for their call to appear.
    pending: BTreeMap<Identifier, SubscribeAttempt>,
    next_subscription_id: u64,
    rate_limit: RateLimit,
    last_pong: Instant,
    next_ping: Instant,
    /// When the token expires by the monotonic clock; `None` if that is too far off for an `Instant`.
    token_expires: Option<Instant>,
    read_retries: ReadRetries,
    /// When the connection is closed if the client has not left for another server.
    drain_deadline: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// Events per database read, derived from the size of the events read last.
    events_per_read: u16,
    /// Counts up, so that the subscriptions that are owed events take turns.
    round_robin: u32,
    /// Whether the loop must not sleep, because more is owed and the socket may take it.
    has_more: bool,
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
        let wall_clock = clock::now();
        // An expired token has a negative rest, which becomes 0.
        let micros_left = identity.expires.as_micros().saturating_sub(wall_clock.as_micros());
        let token_expires = now.checked_add(Duration::from_micros(u64::try_from(micros_left).unwrap_or(0)));
        let connection = Arc::new(Connection::new(identity, remote_addr, wall_clock, io.into()));
        hub.add(Arc::clone(&connection));
        if hub.is_draining() {
            // The drain may have listed the connections before this one was added, so it notifies itself.
            let close_at = now + DrainNotice::TIME_TO_LEAVE;
            connection.notify_drain(DrainNotice { leave_after: Duration::ZERO, close_at });
        }
        Self {
            connection,
            hub,
            store,
            timing,
            codec: Codec::new(MAX_CLIENT_MESSAGE),
            pending: BTreeMap::new(),
            next_subscription_id: 0,
            rate_limit: RateLimit::new(now),
            last_pong: now,
            next_ping,
            token_expires,
            read_retries: ReadRetries::default(),
            drain_deadline: None,
            timer: Box::pin(sleep_until(next_ping.into())),
            events_per_read: 64,
            round_robin: 0,
            has_more: false,
            deliveries: None,
        }
    }

    /// Serves the connection until it ends.
    ///
    /// A task is as large as the largest future it awaits. Most of the thousands of tasks only wait for their client,
    /// so the futures of rare work (database reads, closing) are boxed where they are awaited.
    pub async fn run(mut self: Box<Self>) {
        let id = self.connection.connection_id;
        info!(
            connection_id = %id, remote = self.connection.remote_addr.map(field::display),
            user = ?self.connection.identity.username, "connected"
        );
        let reason = self.serve().await;
        if let Some(reason) = reason {
            Box::pin(self.close(reason)).await;
        }
        let sent = self.connection.sent.load(Ordering::Relaxed);
        info!(connection_id = %id, sent, close = reason.map(CloseReason::code), "disconnected");
    }

    /// Runs until the peer has disconnected (`None`) or the session has to close the connection.
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
            if self.drain_deadline.is_some_and(|close_at| close_at <= now) {
                return Some(CloseReason::GoingAway);
            }
            self.set_timer(now);
            match self.next().await {
                SessionEvent::Woken => {}
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
                SessionEvent::Disconnected => return None,
                SessionEvent::Close(reason) => return Some(reason),
            }
        }
    }

    /// Adds a subscription that is not caught up yet, and joins a feed of its call.
    fn add_subscription(
        &mut self,
        call_id: CallId,
        names: Vec<Identifier>,
        call_sid: String,
        cursor: Seq,
    ) -> Arc<LogTail> {
        let id = self.next_subscription_id;
        self.next_subscription_id += 1;
        let (log_tail, feed_member_id) = self.hub.join(call_id, &self.connection, id);
        let subscription = Subscription {
            id,
            log_tail: Arc::clone(&log_tail),
            feed_member_id,
            names,
            call_sid,
            cursor,
            confirmed_head: 0,
            caught_up: false,
            end_reason: None,
        };
        let mut state = self.connection.state.lock();
        // Most connections have one subscription, and the first `push` would allocate memory for four.
        if state.subscriptions.is_empty() {
            state.subscriptions.reserve_exact(1);
        }
        state.subscriptions.push(subscription);
        drop(state);
        log_tail
    }

    /// Removes a subscription from the connection. The caller has to leave its feed.
    fn remove_subscription(&self, is_wanted: impl Fn(&Subscription) -> bool) -> Option<Subscription> {
        let mut state = self.connection.state.lock();
        let at = state.subscriptions.iter().position(is_wanted)?;
        Some(state.subscriptions.swap_remove(at))
    }

    fn set_timer(&mut self, now: Instant) {
        let next = [
            Some(self.next_ping),
            Some(self.last_pong + self.timing.pong_timeout),
            self.token_expires,
            self.codec.blocked.map(|(since, _)| since + self.timing.write_deadline),
            self.read_retries.next_retry(now),
            self.drain_deadline,
            self.deliveries_due_at(now),
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
        let flushed_bytes = self.connection.state.lock().flushed_bytes;
        if let Some(blocked) = self.codec.blocked.as_mut().filter(|(_, before)| *before != flushed_bytes) {
            // The peer has read something since, so its write deadline starts again.
            *blocked = (now, flushed_bytes);
        }
        // Both clocks count: the monotonic clock stands still while the machine sleeps, and the wall clock can be set.
        let is_expired = self.token_expires.is_some_and(|expires| expires <= now);
        if is_expired || self.connection.identity.expires <= clock::now() {
            return Some(CloseReason::TokenExpired);
        }
        let is_sending = self.codec.blocked.is_some_and(|(since, _)| now < since + self.timing.write_deadline);
        if now >= self.last_pong + self.timing.pong_timeout {
            if !is_sending {
                return Some(CloseReason::PongTimeout);
            }
            // The peer reads a large frame slowly. The ping waits behind that frame and cannot be answered yet.
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
            self.codec.ping(&self.connection.state);
        }
        None
    }
}

/// Fails a read that takes longer than [`READ_TIMEOUT`], because requests and deadlines of the session wait for it.
async fn in_time<T>(read: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(READ_TIMEOUT, read).await.unwrap_or(Err(StoreError::TimedOut))
}

/// Runs however the task ends, also by a panic: no feed, waiter or watcher keeps the connection.
impl Drop for Session {
    fn drop(&mut self) {
        let subscriptions = {
            let mut state = self.connection.state.lock();
            state.io = None;
            state.out.clear();
            std::mem::take(&mut state.subscriptions)
        };
        for subscription in subscriptions {
            self.hub.leave(&subscription.log_tail, subscription.feed_member_id);
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
