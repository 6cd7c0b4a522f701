//! Follows deliveries in the order of their commits.
//!
//! Like a subscription to a call, it holds a cursor and no queue. Deliveries after the cursor are read from the
//! database when a commit of this process or a notification of another one prompts it, and a few times a second in any
//! case. The cursor moves once the message of a delivery is in the connection's output.

use std::time::{Duration, Instant};

use callscope_common::protocol::{
    CloseReason, DeliveriesConfirmed, DeliveriesEnded, DeliveryMessage, ErrorCode, FollowDeliveries, ServerMessage,
};
use tracing::debug;

use super::{Session, in_time};
use crate::auth::Role;
use crate::store::StoreError;
use crate::store::deliveries::DeliveryCursor;

/// Pause between two reads while commits follow each other closely.
const MIN_INTERVAL: Duration = Duration::from_millis(25);
/// Pause between two reads that nothing prompts. They find commits of other processes, and deliveries that waited for
/// an older one.
const IDLE_INTERVAL: Duration = Duration::from_millis(250);
/// Most deliveries read at once.
const PAGE: i64 = 128;

/// A connection's place in the order of deliveries.
pub(super) struct DeliveriesSubscription {
    cursor: DeliveryCursor,
    /// When deliveries were last read, at which count of commits, and whether the read found all there were.
    looked: Instant,
    seen: u64,
    is_through: bool,
    /// When reading began to fail.
    failing: Option<Instant>,
}

impl DeliveriesSubscription {
    /// When to read again, given the count of commits.
    pub fn due(&self, commits: u64) -> Instant {
        match (self.failing.is_some(), self.is_through) {
            (false, false) => self.looked,
            (false, true) if commits != self.seen => self.looked + MIN_INTERVAL,
            _ => self.looked + IDLE_INTERVAL,
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
        // Watch commits first and read afterwards, so that nothing falls in between.
        self.hub.delivery_watchers().add(&self.connection);
        match self.first_cursor(&request).await {
            Ok(Some(cursor)) => {
                let now = Instant::now();
                let following =
                    DeliveriesSubscription { cursor, looked: now, seen: 0, is_through: false, failing: None };
                self.deliveries = Some(Box::new(following));
                let message = "following deliveries".into();
                self.send(&ServerMessage::DeliveriesConfirmed(DeliveriesConfirmed {
                    cursor: cursor.to_string(),
                    message,
                }));
            }
            Ok(None) => {
                self.end_deliveries();
                let message = "the cursor is of another order of deliveries; begin without one";
                self.send_error(ErrorCode::CursorInvalid, message, None);
            }
            Err(error) => {
                self.end_deliveries();
                debug!(connection_id = %self.connection.connection_id, %error, "cannot follow deliveries");
                self.send_error(ErrorCode::SubscriptionFailed, "the storage does not answer; try again", None);
            }
        }
    }

    /// The cursor to begin with; `None` if the client's cursor cannot be of this database.
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

    /// Sends the next deliveries if it is time to read and the client has taken everything before. Returns a reason if
    /// the connection has to be closed.
    pub(super) async fn send_deliveries(&mut self) -> Option<CloseReason> {
        let (now, commits) = (Instant::now(), self.hub.delivery_watchers().commits());
        let following = self.deliveries.as_mut().filter(|following| following.due(commits) <= now)?;
        if !self.connection.state.lock().out.is_empty() {
            return None;
        }
        let read = in_time(self.store.deliveries_after(following.cursor, PAGE)).await;
        (following.looked, following.seen) = (now, commits);
        let found = match read {
            Ok(found) => found,
            Err(error) => {
                debug!(connection_id = %self.connection.connection_id, %error, "cannot read deliveries");
                let since = *following.failing.get_or_insert(now);
                return (now >= since + self.timing.storage_deadline).then_some(CloseReason::StorageDown);
            }
        };
        following.failing = None;
        following.is_through = i64::try_from(found.len()).is_ok_and(|count| count < PAGE);
        if let Some((cursor, _)) = found.last() {
            following.cursor = *cursor;
        }
        for (cursor, delivery) in found {
            self.send(&ServerMessage::Delivery(Box::new(DeliveryMessage { cursor: cursor.to_string(), delivery })));
        }
        None
    }

    /// When the timer has to fire for [`send_deliveries`](Self::send_deliveries). Never at once, because what prevents
    /// it now may last.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        self.deliveries
            .as_ref()
            .map(|following| following.due(self.hub.delivery_watchers().commits()).max(now + MIN_INTERVAL))
    }
}
