//! Follows deliveries in the order of their commits.
//!
//! Like a subscription to a call, a subscription to deliveries holds a cursor and no queue. The session reads the
//! deliveries after the cursor from the database: after a commit of this process, after a notification from another
//! one, and every [`IDLE_INTERVAL`] in any case. After a read, one message for each delivery is queued for the socket,
//! and the cursor moves to the last of them.

use std::time::{Duration, Instant};

use callscope_common::claims::Role;
use callscope_common::protocol::{
    CloseReason, DeliveriesConfirmed, DeliveriesEnded, DeliveryMessage, ErrorCode, FollowDeliveries, ServerMessage,
};
use tracing::debug;

use super::{Session, in_time};
use crate::store::StoreError;
use crate::store::deliveries::DeliveryCursor;

/// Minimum interval of the reads that commits trigger.
const MIN_INTERVAL: Duration = Duration::from_millis(25);
/// Interval of the reads that nothing triggers. They find commits of other processes, and deliveries that were
/// committed earlier but become readable only when an older transaction ends (PostgreSQL).
const IDLE_INTERVAL: Duration = Duration::from_millis(250);
const MAX_DELIVERIES_PER_READ: i64 = 128;

/// A connection's place in the order of deliveries.
pub(super) struct DeliveriesSubscription {
    cursor: DeliveryCursor,
    last_read_at: Instant,
    /// [`DeliveryWatchers::commits`](crate::live::delivery_watchers::DeliveryWatchers::commits) at the last read.
    commits_at_last_read: u64,
    /// Whether the last read reached the newest delivery.
    is_caught_up: bool,
    failing_since: Option<Instant>,
}

impl DeliveriesSubscription {
    /// When to read again, given the current count of commits.
    pub fn next_read_at(&self, commits: u64) -> Instant {
        match (self.failing_since.is_some(), self.is_caught_up) {
            (false, false) => self.last_read_at,
            (false, true) if commits != self.commits_at_last_read => self.last_read_at + MIN_INTERVAL,
            _ => self.last_read_at + IDLE_INTERVAL,
        }
    }
}

impl Session {
    pub(super) async fn follow_deliveries(&mut self, request: FollowDeliveries) {
        let identity = &self.connection.identity;
        if identity.role != Role::Admin || identity.calls.is_some() {
            let message = "deliveries are for an admin's token that is not limited to some calls";
            return self.send_error(ErrorCode::Forbidden, message, None);
        }
        // Watches commits before the head is read, so that no delivery is missed in between.
        self.hub.delivery_watchers().add(&self.connection);
        match self.first_cursor(&request).await {
            Ok(Some(cursor)) => {
                self.deliveries = Some(Box::new(DeliveriesSubscription {
                    cursor,
                    last_read_at: Instant::now(),
                    commits_at_last_read: 0,
                    is_caught_up: false,
                    failing_since: None,
                }));
                let message = "following deliveries".into();
                self.send(&ServerMessage::DeliveriesConfirmed(DeliveriesConfirmed {
                    cursor: cursor.to_string(),
                    message,
                }));
            }
            Ok(None) => {
                self.end_deliveries();
                let message = "the cursor does not belong to this database; follow without `after`";
                self.send_error(ErrorCode::CursorInvalid, message, None);
            }
            Err(error) => {
                self.end_deliveries();
                debug!(connection_id = %self.connection.connection_id, %error, "cannot follow deliveries");
                self.send_error(ErrorCode::SubscriptionFailed, "the storage does not answer; try again", None);
            }
        }
    }

    /// The cursor to start at; `None` if the client's cursor is not a place in this database.
    async fn first_cursor(&self, request: &FollowDeliveries) -> Result<Option<DeliveryCursor>, StoreError> {
        let head = in_time(self.store.delivery_head()).await?;
        Ok(match &request.after {
            Some(cursor) => match cursor.parse().ok() {
                Some(cursor) if in_time(self.store.contains_cursor(&head, cursor)).await? => Some(cursor),
                _ => None,
            },
            None if request.history => Some(head.start),
            None => Some(head.now),
        })
    }

    pub(super) fn unfollow_deliveries(&mut self) {
        let message = if self.deliveries.is_some() { "unsubscribed" } else { "was not subscribed" };
        self.end_deliveries();
        self.send(&ServerMessage::DeliveriesEnded(DeliveriesEnded { message: message.into() }));
    }

    pub(super) fn end_deliveries(&mut self) {
        self.deliveries = None;
        self.hub.delivery_watchers().remove(&self.connection);
    }

    /// Reads and queues the next deliveries if a read is due and everything queued before is in the socket. Returns a
    /// reason if the connection has to be closed.
    pub(super) async fn send_deliveries(&mut self) -> Option<CloseReason> {
        let (now, commits) = (Instant::now(), self.hub.delivery_watchers().commits());
        let following = self.deliveries.as_mut().filter(|following| following.next_read_at(commits) <= now)?;
        if !self.connection.state.lock().out.is_empty() {
            return None;
        }
        let read = in_time(self.store.deliveries_after(following.cursor, MAX_DELIVERIES_PER_READ)).await;
        (following.last_read_at, following.commits_at_last_read) = (now, commits);
        let found = match read {
            Ok(found) => found,
            Err(error) => {
                debug!(connection_id = %self.connection.connection_id, %error, "cannot read deliveries");
                let since = *following.failing_since.get_or_insert(now);
                return (now >= since + self.timing.storage_deadline).then_some(CloseReason::StorageDown);
            }
        };
        following.failing_since = None;
        following.is_caught_up = i64::try_from(found.len()).is_ok_and(|count| count < MAX_DELIVERIES_PER_READ);
        if let Some((cursor, _)) = found.last() {
            following.cursor = *cursor;
        }
        for (cursor, delivery) in found {
            self.send(&ServerMessage::Delivery(Box::new(DeliveryMessage { cursor: cursor.to_string(), delivery })));
        }
        None
    }

    /// When the timer has to fire for [`send_deliveries`](Self::send_deliveries): at least [`MIN_INTERVAL`] from now. A
    /// read that is already due waits until the socket has taken everything, and the flush wakes the session. A timer
    /// that fires at once would only spin.
    pub(super) fn deliveries_due_at(&self, now: Instant) -> Option<Instant> {
        let commits = self.hub.delivery_watchers().commits();
        self.deliveries.as_ref().map(|following| following.next_read_at(commits).max(now + MIN_INTERVAL))
    }
}
