//! Signals that hub and feeds leave for a session: to close, to tell the client to leave, and that a call appeared, was
//! merged or was deleted.

use std::sync::Arc;
use std::time::Instant;

use callscope_common::protocol::{CallMerged, CloseReason, ErrorCode, ErrorMessage, Reconnect, ServerMessage};
use callscope_common::{Cursor, Identifier};

use super::{Reader, Session, in_time};
use crate::live::connection::{DrainNotice, EndReason};
use crate::store::StoreError;
use crate::store::calls::CallInfo;

/// Most waiting subscriptions that are started before the session handles requests, deadlines and other signals.
const MAX_SUBSCRIBED_AT_ONCE: usize = 4;

impl Session {
    /// Handles the signals in the connection's state. Returns a reason if the connection has to be closed.
    pub(super) async fn handle_signals(&mut self) -> Option<CloseReason> {
        let now = Instant::now();
        self.forget_failures_of_ended_readers();
        let (notice, ended) = {
            let mut state = self.connection.state.lock();
            if state.close.is_some() || state.socket_failed {
                return state.close.or(Some(CloseReason::Normal));
            }
            let ended = state.subscriptions.iter().filter_map(|s| Some((s.id, s.end_reason?)));
            let ended: Vec<(u64, EndReason)> =
                ended.filter(|(id, _)| self.read_retries.may_read(Reader::Subscription(*id), now)).collect();
            (state.drain_notice.take(), ended)
        };
        if let (Some(notice), None) = (notice, self.drain_deadline) {
            let DrainNotice { leave_after, close_at } = *notice;
            self.drain_deadline = Some(close_at);
            let after_ms = u64::try_from(leave_after.as_millis()).unwrap_or(u64::MAX);
            self.send(&ServerMessage::Reconnect(Reconnect { after_ms, reason: "the server is shutting down".into() }));
        }
        for (id, reason) in ended {
            match Box::pin(self.end_subscription(id, reason)).await {
                Ok(()) => self.read_retries.clear(Reader::Subscription(id)),
                Err(error) => self.record_failed_read(Reader::Subscription(id), &error),
            }
        }
        Box::pin(self.subscribe_appeared(now)).await;
        None
    }

    /// Subscribes to awaited calls that have appeared: a few at a time, because the rest of the connection waits while
    /// each of them reads the storage. If the storage does not answer, they stay pending and are tried again.
    async fn subscribe_appeared(&mut self, now: Instant) {
        for _ in 0..MAX_SUBSCRIBED_AT_ONCE {
            if !self.read_retries.may_read(Reader::Appeared, now) {
                return;
            }
            let next = self.connection.state.lock().appeared.pop();
            let Some(identifier) = next else { return self.read_retries.clear(Reader::Appeared) };
            let Some(pending) = self.pending.remove(&identifier) else { continue };
            match self.subscribe_pending(pending).await {
                Ok(()) => self.read_retries.clear(Reader::Appeared),
                Err((pending, error)) => {
                    self.record_failed_read(Reader::Appeared, &error);
                    self.pending.insert(identifier.clone(), pending);
                    self.connection.state.lock().appeared.push(identifier);
                }
            }
        }
        self.has_more |= !self.connection.state.lock().appeared.is_empty();
    }

    fn forget_failures_of_ended_readers(&mut self) {
        if self.read_retries.is_empty() {
            return;
        }
        let state = self.connection.state.lock();
        self.read_retries.retain(|reader| match reader {
            Reader::Subscription(id) => state.subscriptions.iter().any(|s| s.id == id),
            Reader::Appeared => !state.appeared.is_empty(),
        });
    }

    /// Ends a subscription whose call was merged or deleted. After a merge, the client follows the surviving call.
    ///
    /// # Errors
    /// Returns an error if the storage fails. Then nothing has changed, and the caller tries again later.
    async fn end_subscription(&mut self, id: u64, reason: EndReason) -> Result<(), StoreError> {
        let survivor = match reason {
            EndReason::Merged(into) => in_time(self.store.call_info(into)).await?,
            EndReason::Deleted => None,
        };
        let Some(ended) = self.remove_subscription(|s| s.id == id) else { return Ok(()) };
        self.hub.leave(&ended.log_tail, ended.feed_member_id);
        for name in &ended.names {
            let identifier = name.as_str().to_owned();
            self.send(&match &survivor {
                Some(survivor) => ServerMessage::CallMerged(CallMerged {
                    identifier,
                    from_call_id: ended.log_tail.call_id,
                    call_id: survivor.call_id,
                    message: "this record is a part of another call, whose log follows from its start".into(),
                }),
                None => ServerMessage::Error(ErrorMessage {
                    message: "the call was deleted".into(),
                    code: ErrorCode::CallNotFound.into(),
                    identifier: Some(identifier),
                    call_id: Some(ended.log_tail.call_id),
                }),
            });
        }
        let Some(survivor) = survivor else { return Ok(()) };
        self.follow_survivor(survivor, ended.names).await;
        Ok(())
    }

    /// Follows the call that absorbed a followed record: with its running subscription, which goes on from its cursor
    /// and gets the `names` too, or with a new one from the start of the log.
    async fn follow_survivor(&mut self, survivor: CallInfo, names: Vec<Identifier>) {
        let call_id = survivor.call_id;
        let running = {
            let mut state = self.connection.state.lock();
            let other = state.subscriptions.iter_mut().find(|s| s.log_tail.call_id == call_id);
            other.map(|other| {
                let new = names.iter().filter(|name| !other.names.contains(name)).cloned().collect::<Vec<_>>();
                other.names.extend(new);
                // No feed writes to it now, so its cursor does not move before it is confirmed.
                other.caught_up = false;
                (Arc::clone(&other.log_tail), other.cursor)
            })
        };
        let (log_tail, cursor_seq) = match running {
            Some((log_tail, cursor_seq)) => (log_tail, cursor_seq),
            None => (self.add_subscription(call_id, names.clone(), survivor.call_sid.clone(), 0), 0),
        };
        // The head is read after the feed is joined, so that no event is missed. If the read fails, reconciliation
        // finds the head.
        let info = in_time(self.store.call_info(call_id)).await.ok().flatten().unwrap_or(survivor);
        let cursor = match cursor_seq {
            0 => Some(Cursor::start(call_id)),
            // The confirmation has no cursor if it cannot be read.
            seq => in_time(self.store.cursor_at(call_id, seq)).await.ok().flatten(),
        };
        for name in &names {
            self.send_confirmation(name, &info, cursor, "subscribed after a merge");
        }
        if let Some(s) =
            self.connection.state.lock().subscriptions.iter_mut().find(|s| Arc::ptr_eq(&s.log_tail, &log_tail))
        {
            s.raise_confirmed_head(info.head);
        }
        self.hub.advance_head(&log_tail, info.head, info.status.is_ended());
    }
}
