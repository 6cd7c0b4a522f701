//! Signals that others leave for a session: to close, to tell the client to leave, to look at a call that appeared, was
//! merged or was deleted.

use std::sync::Arc;
use std::time::Instant;

use callscope_common::protocol::{CallMerged, CloseReason, ErrorCode, ErrorMessage, Reconnect, ServerMessage};
use callscope_common::{Cursor, Identifier};

use super::{Reader, Session, in_time};
use crate::live::connection::{DrainNotice, EndReason};
use crate::store::StoreError;
use crate::store::calls::CallInfo;

/// Most waiting subscriptions that begin before the session looks at everything else.
const MAX_SUBSCRIBED_AT_ONCE: usize = 4;

impl Session {
    /// Handles what others have left in the connection's state. Returns a reason if the connection has to be closed.
    pub(super) async fn handle_signals(&mut self) -> Option<CloseReason> {
        let now = Instant::now();
        self.forget_outages();
        let (notice, ended) = {
            let mut state = self.connection.state.lock();
            if state.close.is_some() || state.broken {
                return state.close.or(Some(CloseReason::Normal));
            }
            let ended = state.subscriptions.iter().filter_map(|s| Some((s.id, s.end_reason?)));
            let ended: Vec<(u64, EndReason)> =
                ended.filter(|(id, _)| self.read_retries.may_read(Reader::Subscription(*id), now)).collect();
            (state.drain_notice.take(), ended)
        };
        if let (Some(notice), None) = (notice, self.drain_deadline) {
            let DrainNotice { after, until } = *notice;
            self.drain_deadline = Some(until);
            let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            self.send(&ServerMessage::Reconnect(Reconnect { after_ms, reason: "the server is shutting down".into() }));
        }
        for (id, reason) in ended {
            match Box::pin(self.end_subscription(id, reason)).await {
                Ok(()) => self.read_retries.succeeded(Reader::Subscription(id)),
                Err(error) => self.storage_failed(Reader::Subscription(id), &error),
            }
        }
        Box::pin(self.subscribe_appeared(now)).await;
        None
    }

    /// Subscribes to awaited calls that have appeared: a few at a time, because each subscription reads the storage
    /// while everything else of the connection waits. If the storage does not answer, they keep waiting and are tried
    /// again.
    async fn subscribe_appeared(&mut self, now: Instant) {
        for _ in 0..MAX_SUBSCRIBED_AT_ONCE {
            if !self.read_retries.may_read(Reader::Appeared, now) {
                return;
            }
            let next = self.connection.state.lock().appeared.pop();
            let Some(identifier) = next else { return self.read_retries.succeeded(Reader::Appeared) };
            let Some(pending) = self.pending.remove(&identifier) else { continue };
            match self.subscribe_pending(pending).await {
                Ok(()) => self.read_retries.succeeded(Reader::Appeared),
                Err((pending, error)) => {
                    self.storage_failed(Reader::Appeared, &error);
                    self.pending.insert(identifier.clone(), pending);
                    self.connection.state.lock().appeared.push(identifier);
                }
            }
        }
        self.has_more |= !self.connection.state.lock().appeared.is_empty();
    }

    /// Forgets failed reads whose reader is gone.
    fn forget_outages(&mut self) {
        if self.read_retries.is_empty() {
            return;
        }
        let state = self.connection.state.lock();
        self.read_retries.retain(|reader| match reader {
            Reader::Subscription(id) => state.subscriptions.iter().any(|s| s.id == id),
            Reader::Appeared => !state.appeared.is_empty(),
        });
    }

    /// Ends a subscription whose call was merged or deleted. After a merge the surviving call is followed from its
    /// start.
    ///
    /// If the storage fails, everything stays as it was and is tried again.
    async fn end_subscription(&mut self, id: u64, reason: EndReason) -> Result<(), StoreError> {
        let survivor = match reason {
            EndReason::Merged(into) => in_time(self.store.call_info(into)).await?,
            EndReason::Deleted => None,
        };
        let Some(gone) = self.take(|s| s.id == id) else { return Ok(()) };
        self.hub.leave(&gone.tail, gone.member);
        for name in &gone.names {
            let identifier = name.as_str().to_owned();
            self.send(&match &survivor {
                Some(into) => ServerMessage::CallMerged(CallMerged {
                    identifier,
                    from_call_id: gone.tail.call_id,
                    call_id: into.call_id,
                    message: "this record is a part of another call, whose log follows from its start".into(),
                }),
                None => ServerMessage::Error(ErrorMessage {
                    message: "the call was deleted".into(),
                    code: ErrorCode::CallNotFound,
                    identifier: Some(identifier),
                    call_id: Some(gone.tail.call_id),
                }),
            });
        }
        let Some(into) = survivor else { return Ok(()) };
        self.follow_survivor(into, gone.names).await;
        Ok(())
    }

    /// Follows the call that absorbed a followed record. If it is followed already, that subscription goes on from its
    /// cursor; otherwise a new one begins at the start of the log.
    async fn follow_survivor(&mut self, into: CallInfo, names: Vec<Identifier>) {
        let call_id = into.call_id;
        let followed = {
            let mut state = self.connection.state.lock();
            let other = state.subscriptions.iter_mut().find(|s| s.tail.call_id == call_id);
            other.map(|other| {
                let new = names.iter().filter(|name| !other.names.contains(name)).cloned().collect::<Vec<_>>();
                other.names.extend(new);
                // Only this session writes to it until it is confirmed, so that its cursor stays known.
                other.caught_up = false;
                (Arc::clone(&other.tail), other.cursor)
            })
        };
        let (tail, place) = match followed {
            Some((tail, place)) => (tail, place),
            None => (self.follow(call_id, names.clone(), into.call_sid.clone(), 0), 0),
        };
        // Read again, because the call is followed only now. If this fails, reconciliation finds the head.
        let info = in_time(self.store.call_info(call_id)).await.ok().flatten().unwrap_or(into);
        let cursor = match place {
            0 => Some(Cursor::start(call_id)),
            place => in_time(self.store.cursor_at(call_id, place)).await.ok().flatten(),
        };
        for name in &names {
            self.confirm(name, &info, cursor, "subscribed after a merge");
        }
        if let Some(s) = self.connection.state.lock().subscriptions.iter_mut().find(|s| Arc::ptr_eq(&s.tail, &tail)) {
            s.confirm(info.head);
        }
        self.hub.advance_head(&tail, info.head, info.status.is_ended());
    }
}
