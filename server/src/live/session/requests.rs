//! Requests of a client, and the answers.

use std::sync::Arc;
use std::time::Instant;

use callscope_common::protocol::{
    ClientMessage, CloseReason, ErrorCode, IdentifierMessage, MAX_SUBSCRIPTIONS, Pong, ServerMessage, Subscribe,
    SubscribeFrom, SubscriptionConfirmed,
};
use callscope_common::{CallId, Cursor, Identifier, Seq, Timestamp};
use tracing::warn;
use tungstenite::Message;

use super::{PendingSubscription, Session, in_time};
use crate::clock;
use crate::live::connection::Subscription;
use crate::live::rate_limit::RateDecision;
use crate::store::StoreError;
use crate::store::calls::CallInfo;

/// Attempts to subscribe to a call that is merged or deleted meanwhile.
const TRIES: usize = 4;

/// Most seconds by which the clocks of servers may differ. A waiting subscription without history begins this much
/// before its request.
const CLOCKS_DIFFER_SECS: i64 = 5;

struct SubscribeAttempt {
    request: Subscribe,
    /// Since when it has waited for its call.
    since: Option<Timestamp>,
}

/// Why a subscription is refused.
enum SubscribeError {
    Rejected(ErrorCode, String),
    Store(StoreError),
}

impl From<StoreError> for SubscribeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn reject<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, SubscribeError> {
    Err(SubscribeError::Rejected(code, message.into()))
}

impl Session {
    pub(super) async fn on_message(&mut self, message: Message) -> Option<CloseReason> {
        let allowed = self.limit.take(Instant::now());
        if allowed == RateDecision::Disconnect {
            return Some(CloseReason::RateExceeded);
        }
        match message {
            Message::Pong(_) => self.last_pong = Instant::now(),
            Message::Text(_) | Message::Binary(_) | Message::Ping(_) if allowed == RateDecision::Drop => {
                self.send_error(ErrorCode::RateLimited, "more than 50 messages a second; this one was dropped", None);
            }
            Message::Ping(_) => self.flush_control(),
            Message::Text(text) => self.on_request(&text).await,
            Message::Binary(_) => {
                self.send_error(
                    ErrorCode::InvalidMessageFormat,
                    "binary frames are not read; send text frames of JSON",
                    None,
                );
            }
            Message::Close(_) | Message::Frame(_) => {}
        }
        None
    }

    async fn on_request(&mut self, text: &str) {
        match ClientMessage::parse(text) {
            Ok(ClientMessage::Subscribe(request)) => self.subscribe(request).await,
            Ok(ClientMessage::Unsubscribe(identifier)) => self.unsubscribe(&identifier).await,
            Ok(ClientMessage::Ping(ping)) => self.send(&ServerMessage::Pong(Pong { ping })),
            Ok(ClientMessage::FollowDeliveries(request)) => self.follow_deliveries(request).await,
            Ok(ClientMessage::UnfollowDeliveries) => self.unfollow_deliveries(),
            Err(error) => self.send_error(error.code, error.message, error.identifier),
        }
    }

    async fn subscribe(&mut self, request: Subscribe) {
        let identifier = request.identifier.clone();
        let mut attempt = SubscribeAttempt { request, since: None };
        if let Err(refused) = self.try_subscribe(&mut attempt).await {
            let (code, message) = match refused {
                SubscribeError::Rejected(code, message) => (code, message),
                SubscribeError::Store(error) => {
                    warn!(connection_id = %self.connection.connection_id, %error, "cannot subscribe");
                    (ErrorCode::SubscriptionFailed, "the storage does not answer; try again".into())
                }
            };
            self.send_error(code, message, Some(identifier.to_string()));
        }
    }

    /// Subscribes to an awaited call that has appeared. If the storage fails, the subscription is given back, to be
    /// tried again.
    pub(super) async fn subscribe_pending(
        &mut self,
        pending: PendingSubscription,
    ) -> Result<(), (PendingSubscription, StoreError)> {
        let PendingSubscription { request, since } = pending;
        let mut attempt = SubscribeAttempt { request, since: Some(since) };
        match self.try_subscribe(&mut attempt).await {
            Ok(()) => Ok(()),
            Err(SubscribeError::Rejected(code, message)) => {
                self.send_error(code, message, Some(attempt.request.identifier.to_string()));
                Ok(())
            }
            Err(SubscribeError::Store(error)) => Err((PendingSubscription { request: attempt.request, since }, error)),
        }
    }

    async fn try_subscribe(&mut self, attempt: &mut SubscribeAttempt) -> Result<(), SubscribeError> {
        for _ in 0..TRIES {
            let request = &attempt.request;
            let Some(info) = in_time(self.store.resolve(&request.identifier)).await? else {
                let since = attempt.since.unwrap_or_else(clock::now);
                if self.await_call(request, since)? && in_time(self.store.resolve(&request.identifier)).await?.is_some()
                {
                    // The call appeared in between: its notification may have found no waiter.
                    attempt.since = Some(since);
                    continue;
                }
                return Ok(());
            };
            if !self.may_follow(&request.identifier, info.call_id).await? {
                return reject(ErrorCode::Forbidden, "the token does not allow this call");
            }
            self.release_name(&request.identifier, Some(info.call_id));
            if self.confirm_again(attempt, &info).await? || self.join(attempt, info.call_id).await? {
                self.forget_pending(&request.identifier);
                return Ok(());
            }
        }
        reject(ErrorCode::SubscriptionFailed, "the call changes too quickly; try again")
    }

    /// Waits for a call that is not known yet, if the client wants to; returns whether it started to wait.
    fn await_call(&mut self, request: &Subscribe, since: Timestamp) -> Result<bool, SubscribeError> {
        let identifier = &request.identifier;
        if !self.connection.identity.may_name(identifier) {
            return reject(ErrorCode::Forbidden, "the token does not allow this call");
        }
        if !request.wait {
            return reject(ErrorCode::CallNotFound, "no such call; `wait: true` waits for it");
        }
        self.release_name(identifier, None);
        let is_new = !self.pending.contains_key(identifier);
        if is_new {
            self.check_limit()?;
            self.hub.add_waiter(identifier, &self.connection);
        }
        self.pending.insert(identifier.clone(), PendingSubscription { request: request.clone(), since });
        self.send(&ServerMessage::SubscriptionPending(IdentifierMessage {
            identifier: identifier.to_string(),
            call_id: None,
            message: "no such call yet; the subscription begins when it appears".into(),
        }));
        Ok(is_new)
    }

    fn forget_pending(&mut self, identifier: &Identifier) {
        if self.pending.remove(identifier).is_some() {
            self.hub.remove_waiter(identifier, &self.connection);
        }
    }

    /// Takes an identifier away from the subscription that has it, if it leads to another call now or to none. An
    /// identifier belongs to one subscription of a connection; a subscription without identifiers ends.
    fn release_name(&mut self, identifier: &Identifier, call_id: Option<CallId>) {
        let is_stale = |s: &Subscription| Some(s.tail.call_id) != call_id && s.names.contains(identifier);
        let nameless = {
            let mut state = self.connection.state.lock();
            for s in state.subscriptions.iter_mut().filter(|s| is_stale(s)) {
                s.names.retain(|name| name != identifier);
            }
            state.subscriptions.iter().find(|s| s.names.is_empty()).map(|s| s.id)
        };
        if let Some(gone) = nameless.and_then(|id| self.take(|s| s.id == id)) {
            self.hub.leave(&gone.tail, gone.member);
        }
    }

    /// A waiting subscription is counted already.
    fn check_limit_for(&self, request: &Subscribe) -> Result<(), SubscribeError> {
        if self.pending.contains_key(&request.identifier) { Ok(()) } else { self.check_limit() }
    }

    fn check_limit(&self) -> Result<(), SubscribeError> {
        if self.connection.state.lock().subscriptions.len() + self.pending.len() >= MAX_SUBSCRIPTIONS {
            return reject(ErrorCode::SubscriptionLimit, format!("more than {MAX_SUBSCRIPTIONS} subscriptions"));
        }
        Ok(())
    }

    async fn may_follow(&self, identifier: &Identifier, call_id: CallId) -> Result<bool, StoreError> {
        let identity = &self.connection.identity;
        match &identity.calls {
            Some(calls) if !identity.may_name(identifier) => in_time(self.store.is_named(call_id, calls)).await,
            _ => Ok(true),
        }
    }

    /// Confirms a subscription that runs already, at its cursor; returns whether there is one.
    async fn confirm_again(&mut self, attempt: &SubscribeAttempt, info: &CallInfo) -> Result<bool, SubscribeError> {
        let request = &attempt.request;
        let is_it = |s: &Subscription| s.tail.call_id == info.call_id;
        if !self.connection.state.lock().subscriptions.iter().any(is_it) {
            return Ok(false);
        }
        self.begin(attempt, info).await?;
        let standing = {
            let mut state = self.connection.state.lock();
            state.subscriptions.iter_mut().find(|s| is_it(s)).map(|s| {
                // From here on only this task writes to it, so that its cursor stays the same until it is confirmed.
                s.caught_up = false;
                (Arc::clone(&s.tail), s.cursor)
            })
        };
        let Some((tail, place)) = standing else { return Ok(false) };
        let Some(cursor) = in_time(self.store.cursor_at(info.call_id, place)).await? else {
            return reject(ErrorCode::SubscriptionFailed, "the call changes too quickly; try again");
        };
        // Events that were sent meanwhile may be newer than the head that was read before.
        let info = &CallInfo { head: info.head.max(place), ..info.clone() };
        self.confirm(&request.identifier, info, Some(cursor), "already subscribed; the running subscription goes on");
        if let Some(s) = self.connection.state.lock().subscriptions.iter_mut().find(|s| Arc::ptr_eq(&s.tail, &tail)) {
            // The name is added when it is confirmed: one that was refused must get no `call_merged` later.
            if !s.names.contains(&request.identifier) {
                s.names.push(request.identifier.clone());
            }
            s.confirm(info.head);
        }
        self.hub.advance_head(&tail, info.head, info.status.is_ended());
        Ok(true)
    }

    /// Joins the call's feed, then reads the head, then confirms; returns whether the identifier still led to the same
    /// call.
    async fn join(&mut self, attempt: &SubscribeAttempt, call_id: CallId) -> Result<bool, SubscribeError> {
        let request = &attempt.request;
        self.check_limit_for(request)?;
        let (id, tail) =
            (self.next_subscription, self.follow(call_id, vec![request.identifier.clone()], String::new(), Seq::MAX));
        let begun = self.begin_at_head(attempt, call_id).await;
        let Ok(Some((info, cursor))) = begun else {
            if let Some(s) = self.take(|s| s.id == id) {
                self.hub.leave(&s.tail, s.member);
            }
            return begun.map(|_| false);
        };
        self.confirm(&request.identifier, &info, Some(cursor), "subscribed");
        {
            let mut state = self.connection.state.lock();
            let Some(s) = state.subscriptions.iter_mut().find(|s| s.id == id) else { return Ok(false) };
            s.cursor = cursor.seq();
            s.confirmed = info.head;
            s.call_sid.clone_from(&info.call_sid);
        }
        self.hub.advance_head(&tail, info.head, info.status.is_ended());
        Ok(true)
    }

    /// Reads the head of a call whose feed was joined, and where the subscription begins. `None` if the identifier
    /// leads elsewhere by now.
    async fn begin_at_head(
        &self,
        attempt: &SubscribeAttempt,
        call_id: CallId,
    ) -> Result<Option<(CallInfo, Cursor)>, SubscribeError> {
        let Some(info) = in_time(self.store.resolve(&attempt.request.identifier)).await? else { return Ok(None) };
        if info.call_id != call_id {
            return Ok(None);
        }
        let begin = self.begin(attempt, &info).await?;
        Ok(in_time(self.store.cursor_at(call_id, begin)).await?.map(|cursor| (info, cursor)))
    }

    /// The seq after which the subscription begins.
    async fn begin(
        &self,
        SubscribeAttempt { request, since }: &SubscribeAttempt,
        info: &CallInfo,
    ) -> Result<Seq, SubscribeError> {
        if let (SubscribeFrom::Live, Some(since)) = (&request.from, since) {
            // Live from the request on: the event that made the call came after it.
            return Ok(in_time(self.store.head_at(info.call_id, since.plus_secs(-CLOCKS_DIFFER_SECS))).await?);
        }
        let begin = in_time(self.store.start_seq(info, &request.from, request.call_id)).await?;
        begin.map_err(|invalid| SubscribeError::Rejected(ErrorCode::CursorInvalid, invalid.to_string()))
    }

    pub(super) fn confirm(&self, identifier: &Identifier, info: &CallInfo, cursor: Option<Cursor>, message: &str) {
        self.send(&ServerMessage::SubscriptionConfirmed(SubscriptionConfirmed {
            identifier: identifier.to_string(),
            call_sid: info.call_sid.clone(),
            conversation_id: info.conversation_id.clone(),
            status: info.status,
            message: message.to_owned(),
            call_id: info.call_id,
            seq: info.head,
            cursor: cursor.map(|cursor| cursor.to_string()),
        }));
    }

    async fn unsubscribe(&mut self, identifier: &Identifier) {
        self.forget_pending(identifier);
        let mut ended = self.take(|s| s.names.contains(identifier));
        let has_others = || !self.connection.state.lock().subscriptions.is_empty();
        if ended.is_none() && has_others() {
            // Perhaps it was subscribed by another identifier.
            match in_time(self.store.resolve(identifier)).await {
                Ok(Some(info)) => ended = self.take(|s| s.tail.call_id == info.call_id),
                Ok(None) => {}
                Err(_) => {
                    let message = "the storage does not answer; try again";
                    self.send_error(ErrorCode::SubscriptionFailed, message, Some(identifier.to_string()));
                    return;
                }
            }
        }
        if let Some(s) = &ended {
            self.hub.leave(&s.tail, s.member);
        }
        let message = if ended.is_some() { "unsubscribed" } else { "was not subscribed" };
        self.send(&ServerMessage::UnsubscribeConfirmed(IdentifierMessage {
            identifier: identifier.to_string(),
            call_id: ended.as_ref().map(|s| s.tail.call_id),
            message: message.into(),
        }));
    }
}
