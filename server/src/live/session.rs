//! One connection's task: it reads requests, catches its subscriptions up, keeps the deadlines and closes in order.
//!
//! It sleeps unless the client sent something, a deadline passed or a feed left it work. The only module that knows the
//! WebSocket library.

mod codec;
mod deliveries;
pub mod echo;
#[doc(hidden)]
pub mod frames;
mod io;
mod requests;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use callscope_common::protocol::{
    CallMerged, CloseReason, ErrorCode, ErrorMessage, MAX_CLIENT_MESSAGE, Reconnect, ServerMessage, Subscribe,
};
use callscope_common::{CallId, Identifier, Seq, Timestamp};
use rocket::tokio::time::{Sleep, sleep_until, timeout};
use tracing::{debug, info};
use tungstenite::Message;

use super::feed::{Feed, JOINED_BYTES};
use super::frame::{join, text_frame};
use super::hub::Hub;
use super::limit::Limit;
use super::socket::Socket;
use super::wire::{Connection, Fate, Leave, Subscription};
use crate::auth::Identity;
use crate::store::{Store, StoreError};
use codec::{Codec, Next};

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between two pings.
    pub ping_interval: Duration,
    /// Without a pong, then 4201.
    pub pong_timeout: Duration,
    /// Without a byte taken by the peer while some wait, then 4101.
    pub write_deadline: Duration,
    /// Without an answer of the storage while events are owed, then 4104.
    pub storage_deadline: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(60),
            write_deadline: Duration::from_secs(10),
            storage_deadline: Duration::from_secs(60),
        }
    }
}

/// For the peer to take the close frame and answer it.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// For a read to be answered.
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// Between two tries of a failing read.
const STORAGE_RETRY: Duration = Duration::from_millis(500);
/// Read buffer of an idle connection, in bytes; it grows with the frames that come.
const READ_BUFFER: usize = 128;
/// Writes to the socket before a session looks at everything else.
const ROUNDS: usize = 32;
/// No further request is read while more bytes than this wait to be sent.
const MAX_WAITING: usize = 64 * 1024;

/// A storage that does not answer.
struct Outage {
    since: Instant,
    /// When it is tried again.
    again: Instant,
}

/// A connection's task. There are thousands, most of them idle: what few of them ever need is boxed.
pub struct Session {
    connection: Arc<Connection>,
    hub: Hub,
    store: Store,
    timing: Arc<Timing>,
    codec: Codec,
    /// Subscriptions that wait for their call to appear.
    pending: BTreeMap<Identifier, Subscribe>,
    next_subscription: u64,
    limit: Limit,
    last_pong: Instant,
    next_ping: Instant,
    expires: Option<Instant>,
    storage_fails: Option<Box<Outage>>,
    /// When the connection is closed, should the client not have left for another server.
    leave_until: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// Events to read from the database at once, by the size of the last ones.
    page: u16,
    /// Which of the subscriptions that are owed something comes next.
    round: u32,
    /// More is owed, and the socket may take it: after a look at everything else.
    has_more: bool,
    /// The interest in deliveries, where there is one.
    deliveries: Option<Box<deliveries::Following>>,
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
        let clock = Timestamp::from_system_time(SystemTime::now());
        let left = identity.expires.as_micros().saturating_sub(clock.as_micros());
        let expires = now.checked_add(Duration::from_micros(u64::try_from(left).unwrap_or(0)));
        let connection = Arc::new(Connection::new(identity, remote_addr, clock, io.into()));
        hub.add(Arc::clone(&connection));
        if hub.is_draining() {
            // Upgraded while the drain began: nobody else will tell it.
            connection.leave(Leave { after: Duration::ZERO, until: now + Leave::GRACE });
        }
        Self {
            connection,
            hub,
            store,
            timing,
            codec: Codec::new(MAX_CLIENT_MESSAGE),
            pending: BTreeMap::new(),
            next_subscription: 0,
            limit: Limit::new(now),
            last_pong: now,
            next_ping,
            expires,
            storage_fails: None,
            leave_until: None,
            timer: Box::pin(sleep_until(next_ping.into())),
            page: 64,
            round: 0,
            has_more: false,
            deliveries: None,
        }
    }

    /// Serves the connection until it ends.
    ///
    /// What it does rarely and for long (reading the database, closing) is boxed where it is awaited: a task is as large as
    /// the largest thing it may wait for, and thousands wait for nothing but their client.
    pub async fn run(mut self: Box<Self>) {
        let id = self.connection.connection_id;
        info!(connection_id = %id, remote = ?self.connection.remote_addr, user = ?self.connection.identity.username, "connected");
        let reason = self.serve().await;
        if let Some(reason) = reason {
            Box::pin(self.shut(reason)).await;
        }
        let sent = self.connection.sent.load(Ordering::Relaxed);
        info!(connection_id = %id, sent, close = ?reason.map(CloseReason::code), "disconnected");
    }

    /// Until the peer is gone (`None`) or the connection is to be closed.
    async fn serve(&mut self) -> Option<CloseReason> {
        loop {
            if let Some(reason) = self.chores().await {
                return Some(reason);
            }
            if self.deliveries.is_some()
                && let Some(reason) = Box::pin(self.pump_deliveries()).await
            {
                return Some(reason);
            }
            if self.pump().await.is_err() {
                return None;
            }
            let now = Instant::now();
            if self.leave_until.is_some_and(|until| until <= now) {
                return Some(CloseReason::GoingAway);
            }
            self.set_timer(now);
            match self.next().await {
                Next::Work => {}
                Next::Timer => {
                    if let Some(reason) = self.on_time(Instant::now()) {
                        return Some(reason);
                    }
                }
                Next::Message(Message::Close(_)) => {
                    Box::pin(self.flush_close()).await;
                    return None;
                }
                Next::Message(message) => {
                    if let Some(reason) = Box::pin(self.on_message(message)).await {
                        return Some(reason);
                    }
                }
                Next::Gone => return None,
                Next::Close(reason) => return Some(reason),
            }
        }
    }

    /// Does what others asked for: close, drain, calls that appeared, were merged or deleted.
    async fn chores(&mut self) -> Option<CloseReason> {
        let (named, leave, fates) = {
            let mut wire = self.connection.wire.lock();
            if wire.close.is_some() || wire.broken {
                return wire.close.or(Some(CloseReason::Normal));
            }
            let retries = self.storage_fails.as_ref().is_none_or(|outage| outage.again <= Instant::now());
            let fates: Vec<(u64, Fate)> = match retries {
                true => wire.subscriptions.iter().filter_map(|s| Some((s.id, s.fate?))).collect(),
                false => Vec::new(),
            };
            (std::mem::take(&mut wire.named), wire.leave.take(), fates)
        };
        if let (Some(leave), None) = (leave, self.leave_until) {
            let Leave { after, until } = *leave;
            self.leave_until = Some(until);
            let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            self.send(&ServerMessage::Reconnect(Reconnect { after_ms, reason: "the server is shutting down".into() }));
        }
        for identifier in named {
            if let Some(request) = self.pending.remove(&identifier) {
                Box::pin(self.subscribe(request)).await;
            }
        }
        for (id, fate) in fates {
            match Box::pin(self.meet(id, fate)).await {
                Ok(()) => self.storage_fails = None,
                Err(error) => self.storage_failed(&error),
            }
        }
        None
    }

    /// Ends a subscription whose call was merged or deleted; after a merge the surviving call is followed from its start.
    ///
    /// A failing storage leaves everything as it was, to be tried again.
    async fn meet(&mut self, id: u64, fate: Fate) -> Result<(), StoreError> {
        let survivor = match fate {
            Fate::Merged(into) => in_time(self.store.call_info(into)).await?,
            Fate::Deleted => None,
        };
        let Some(gone) = self.take(|s| s.id == id) else { return Ok(()) };
        self.hub.leave(&gone.feed, gone.member);
        for name in &gone.names {
            let identifier = name.as_str().to_owned();
            self.send(&match &survivor {
                Some(into) => ServerMessage::CallMerged(CallMerged {
                    identifier,
                    from_call_id: gone.feed.call_id,
                    call_id: into.call_id,
                    message: "this record is a part of another call, whose log follows from its start".into(),
                }),
                None => ServerMessage::Error(ErrorMessage {
                    message: "the call was deleted".into(),
                    code: ErrorCode::CallNotFound,
                    identifier: Some(identifier),
                }),
            });
        }
        let Some(into) = survivor else { return Ok(()) };
        let (call_id, names) = (into.call_id, gone.names);
        let followed = {
            let mut wire = self.connection.wire.lock();
            let other = wire.subscriptions.iter_mut().find(|s| s.feed.call_id == call_id);
            other.map(|other| {
                let new = names.iter().filter(|name| !other.names.contains(name)).cloned().collect::<Vec<_>>();
                other.names.extend(new);
                Arc::clone(&other.feed)
            })
        };
        let feed = followed.unwrap_or_else(|| self.follow(call_id, names.clone(), into.call_sid.clone(), 0));
        // Read anew, since it is followed only now; should this fail, the sweep finds the head.
        let info = in_time(self.store.call_info(call_id)).await.ok().flatten().unwrap_or(into);
        for name in &names {
            self.confirm(name, &info, "subscribed after a merge");
        }
        if let Some(s) = self.connection.wire.lock().subscriptions.iter_mut().find(|s| Arc::ptr_eq(&s.feed, &feed)) {
            s.confirm(info.head);
        }
        self.hub.raise(&feed, info.head, info.status.is_ended());
        Ok(())
    }

    /// Starts following a call behind `cursor`, unsettled.
    fn follow(&mut self, call_id: CallId, names: Vec<Identifier>, call_sid: String, cursor: Seq) -> Arc<Feed> {
        let id = self.next_subscription;
        self.next_subscription += 1;
        let (feed, member) = self.hub.join(call_id, &self.connection, id);
        let subscription = Subscription {
            id,
            feed: Arc::clone(&feed),
            member,
            names,
            call_sid,
            cursor,
            confirmed: 0,
            settled: false,
            fate: None,
        };
        let mut wire = self.connection.wire.lock();
        // Most connections have one, and a vector would take room for four.
        if wire.subscriptions.is_empty() {
            wire.subscriptions.reserve_exact(1);
        }
        wire.subscriptions.push(subscription);
        drop(wire);
        feed
    }

    /// Takes a subscription off the connection.
    fn take(&self, is_it: impl Fn(&Subscription) -> bool) -> Option<Subscription> {
        let mut wire = self.connection.wire.lock();
        let at = wire.subscriptions.iter().position(is_it)?;
        Some(wire.subscriptions.swap_remove(at))
    }

    /// Gives every unsettled subscription what it is owed, until the socket is full or all are settled.
    async fn pump(&mut self) -> std::io::Result<()> {
        let mut rounds = 0;
        loop {
            let flushed = poll_fn(|cx| Poll::Ready(self.connection.wire.lock().poll_flush(cx))).await;
            match flushed {
                Poll::Ready(result) => result?,
                Poll::Pending => return Ok(()),
            }
            if self.storage_fails.as_ref().is_some_and(|outage| outage.again > Instant::now()) {
                return Ok(());
            }
            let Some((id, feed, cursor)) = self.next_owed() else {
                if !self.has_fates() {
                    // Whatever could not be read is not owed any more.
                    self.storage_fails = None;
                }
                return Ok(());
            };
            rounds += 1;
            if rounds > ROUNDS {
                // Others are waiting too: requests, deadlines, whoever wants this connection closed.
                self.has_more = true;
                return Ok(());
            }
            let found = match feed.frames_after(cursor) {
                Some(found) => Ok(Some(found)),
                None => Box::pin(self.read_owed(&feed, cursor)).await,
            };
            match found {
                Ok(Some((bytes, last))) => {
                    let mut wire = self.connection.wire.lock();
                    if let Some(s) = wire.subscriptions.iter_mut().find(|s| s.id == id && s.cursor == cursor) {
                        s.cursor = last;
                        self.connection.sent.fetch_add(u64::try_from(last - cursor).unwrap_or(0), Ordering::Relaxed);
                        wire.out.push_back(bytes);
                    }
                    self.storage_fails = None;
                }
                Ok(None) => match Box::pin(self.fate_of(feed.call_id)).await {
                    Ok(Some(fate)) => {
                        self.connection.meet(id, fate);
                        return Ok(());
                    }
                    // Announced and not readable: to be tried again.
                    Ok(None) => self.storage_failed(&StoreError::Damaged("log: an announced event is missing")),
                    Err(error) => self.storage_failed(&error),
                },
                Err(error) => self.storage_failed(&error),
            }
        }
    }

    /// Settles or ends subscriptions that are owed nothing; returns one that is.
    fn next_owed(&mut self) -> Option<(u64, Arc<Feed>, Seq)> {
        let mut ended = Vec::new();
        let mut owed = Vec::new();
        {
            let mut wire = self.connection.wire.lock();
            wire.subscriptions.retain_mut(|s| {
                if s.settled || s.fate.is_some() {
                    return true;
                }
                // In this order: a head read after the end holds the end.
                let is_over = s.feed.ended();
                // What was confirmed may be ahead of the feed, which then must not end the subscription before it.
                if s.cursor < s.feed.head().max(s.confirmed) {
                    owed.push((s.id, Arc::clone(&s.feed), s.cursor));
                } else if is_over {
                    ended.push((Arc::clone(&s.feed), s.member));
                    return false;
                } else {
                    s.settled = true;
                }
                true
            });
        }
        for (feed, member) in ended {
            self.hub.leave(&feed, member);
        }
        // Round robin, so that one that cannot be read keeps no other waiting.
        self.round = self.round.wrapping_add(1);
        if owed.is_empty() { None } else { Some(owed.swap_remove(self.round as usize % owed.len())) }
    }

    fn has_fates(&self) -> bool {
        self.connection.wire.lock().subscriptions.iter().any(|s| s.fate.is_some())
    }

    /// The frames behind `cursor` that the feed's ring does not hold any more. `None` where the log has none.
    async fn read_owed(&mut self, feed: &Feed, cursor: Seq) -> Result<Option<(bytes::Bytes, Seq)>, StoreError> {
        let events = in_time(self.store.events(feed.call_id, cursor, self.page.into())).await?;
        let mut frames = Vec::with_capacity(events.len());
        let (mut bytes, mut last) = (0, cursor);
        for event in &events {
            if event.seq != last + 1 {
                return Err(StoreError::Damaged("log: an event is missing"));
            }
            bytes += event.frame.len();
            if bytes > JOINED_BYTES && !frames.is_empty() {
                break;
            }
            frames.push(text_frame(&event.frame));
            last = event.seq;
        }
        if frames.is_empty() {
            return Ok(None);
        }
        let average = (bytes / frames.len()).max(1);
        self.page = u16::try_from(JOINED_BYTES / average).unwrap_or(u16::MAX).clamp(1, 512);
        Ok(Some((join(&frames), last)))
    }

    /// What became of a call whose log holds less than was announced.
    async fn fate_of(&self, call_id: CallId) -> Result<Option<Fate>, StoreError> {
        Ok(match in_time(self.store.heads(&[call_id])).await?.first() {
            None => Some(Fate::Deleted),
            Some(head) => head.merged_into.map(Fate::Merged),
        })
    }

    fn storage_failed(&mut self, error: &StoreError) {
        let now = Instant::now();
        let since = self.storage_fails.as_ref().map_or(now, |outage| outage.since);
        debug!(connection_id = %self.connection.connection_id, %error, "cannot read what is owed");
        self.storage_fails = Some(Box::new(Outage { since, again: now + STORAGE_RETRY }));
    }

    fn set_timer(&mut self, now: Instant) {
        let next = [
            Some(self.next_ping),
            Some(self.last_pong + self.timing.pong_timeout),
            self.expires,
            self.codec.blocked.map(|(since, _)| since + self.timing.write_deadline),
            self.storage_fails.as_ref().map(|outage| outage.again).filter(|again| *again > now),
            self.leave_until,
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

    fn on_time(&mut self, now: Instant) -> Option<CloseReason> {
        let written = self.connection.wire.lock().written;
        if let Some(blocked) = self.codec.blocked.as_mut().filter(|(_, before)| *before != written) {
            // It took something since.
            *blocked = (now, written);
        }
        if self.expires.is_some_and(|expires| expires <= now) {
            return Some(CloseReason::TokenExpired);
        }
        let is_sending = self.codec.blocked.is_some_and(|(since, _)| now < since + self.timing.write_deadline);
        if now >= self.last_pong + self.timing.pong_timeout {
            if !is_sending {
                return Some(CloseReason::PongTimeout);
            }
            // It takes in a large frame slowly: the ping waits behind it, and so cannot be answered yet.
            self.last_pong = now;
        }
        if self.codec.blocked.is_some_and(|(since, _)| now >= since + self.timing.write_deadline) {
            return Some(CloseReason::TooSlow);
        }
        if self.storage_fails.as_ref().is_some_and(|outage| now >= outage.since + self.timing.storage_deadline) {
            return Some(CloseReason::StorageDown);
        }
        if now >= self.next_ping {
            self.next_ping = now + self.timing.ping_interval;
            self.ping();
        }
        None
    }
}

/// A read that hangs is one that failed: the session has other things to look after.
async fn in_time<T>(read: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(READ_DEADLINE, read).await.unwrap_or(Err(StoreError::TimedOut))
}

/// Whatever ends the task, nothing of the connection stays behind.
impl Drop for Session {
    fn drop(&mut self) {
        let subscriptions = {
            let mut wire = self.connection.wire.lock();
            wire.io = None;
            wire.out.clear();
            std::mem::take(&mut wire.subscriptions)
        };
        for subscription in subscriptions {
            self.hub.leave(&subscription.feed, subscription.member);
        }
        for identifier in self.pending.keys() {
            self.hub.wait_no_more(identifier, &self.connection);
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

    /// The task itself, without what it points to.
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
