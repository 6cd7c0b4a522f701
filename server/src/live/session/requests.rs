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

use super::{Session, in_time};
use crate::clock;
use crate::live::connection::Subscription;
use crate::live::rate_limit::RateDecision;
use crate::store::StoreError;
use crate::store::calls::CallInfo;

/// The most attempts to subscribe. An attempt fails if the call is merged or deleted meanwhile.
const MAX_ATTEMPTS: usize = 4;

/// Subtracted from the time of a request, because another server may have stamped the events that came after it.
const MAX_CLOCK_SKEW_SECS: i64 = 5;

/// A request to subscribe, which may have to wait for its call to appear.
pub(super) struct SubscribeAttempt {
    request: Subscribe,
    /// When the client sent the request, if the subscription has waited for its call.
    requested_at: Option<Timestamp>,
}

const CALL_CHANGED: &str = "the call was merged or deleted meanwhile; try again";

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
        let decision = self.rate_limit.count(Instant::now());
        if decision == RateDecision::Disconnect {
            return Some(CloseReason::RateExceeded);
        }
        match message {
            Message::Pong(_) => self.last_pong = Instant::now(),
            Message::Text(_) | Message::Binary(_) | Message::Ping(_) if decision == RateDecision::Drop => {
                self.send_error(ErrorCode::RateLimited, "more than 50 messages a second; this one was dropped", None);
            }
            // The library has queued the pong.
            Message::Ping(_) => self.codec.flush_control(&self.connection.state),
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
        let mut attempt = SubscribeAttempt { request, requested_at: None };
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

    /// Subscribes to an awaited call that has appeared.
    ///
    /// # Errors
    /// Returns the subscription, which has to be tried again, if the storage fails.
    pub(super) async fn subscribe_pending(
        &mut self,
        mut attempt: SubscribeAttempt,
    ) -> Result<(), (SubscribeAttempt, StoreError)> {
        match self.try_subscribe(&mut attempt).await {
            Ok(()) => Ok(()),
            Err(SubscribeError::Rejected(code, message)) => {
                self.send_error(code, message, Some(attempt.request.identifier.to_string()));
                Ok(())
            }
            Err(SubscribeError::Store(error)) => Err((attempt, error)),
        }
    }

    async fn try_subscribe(&mut self, attempt: &mut SubscribeAttempt) -> Result<(), SubscribeError> {
        for _ in 0..MAX_ATTEMPTS {
            let request = &attempt.request;
            let Some(info) = in_time(self.store.resolve(&request.identifier)).await? else {
                let requested_at = attempt.requested_at.unwrap_or_else(clock::now);
                let has_started = self.start_waiting(request, requested_at)?;
                if !has_started || in_time(self.store.resolve(&request.identifier)).await?.is_none() {
                    return Ok(());
                }
                // The call appeared in between, so its notification may have found no waiter.
                attempt.requested_at = Some(requested_at);
                continue;
            };
            if !self.may_follow(&request.identifier, info.call_id).await? {
                return reject(ErrorCode::Forbidden, "the token does not allow this call");
            }
            if self.confirm_running(attempt, &info).await? || self.start_subscription(attempt, info.call_id).await? {
                self.stop_waiting(&request.identifier);
                return Ok(());
            }
        }
        reject(ErrorCode::SubscriptionFailed, CALL_CHANGED)
    }

    /// Starts to wait for a call that does not exist yet, if the client wants to wait; returns false if the session
    /// waits for it already.
    fn start_waiting(&mut self, request: &Subscribe, requested_at: Timestamp) -> Result<bool, SubscribeError> {
        let identifier = &request.identifier;
        if !self.connection.identity.may_name(identifier) {
            return reject(ErrorCode::Forbidden, "the token does not allow this call");
        }
        if !request.wait {
            return reject(ErrorCode::CallNotFound, "no such call; `wait: true` waits for it");
        }
        self.check_limit(identifier)?;
        self.release_name(identifier, None);
        let is_new = !self.pending.contains_key(identifier);
        if is_new {
            self.hub.add_waiter(identifier, &self.connection);
        }
        let attempt = SubscribeAttempt { request: request.clone(), requested_at: Some(requested_at) };
        self.pending.insert(identifier.clone(), attempt);
        self.send(&ServerMessage::SubscriptionPending(IdentifierMessage {
            identifier: identifier.to_string(),
            call_id: None,
            message: "no such call yet; the subscription begins when it appears".into(),
        }));
        Ok(is_new)
    }

    /// Stops waiting for a call; returns whether the session waited for it.
    fn stop_waiting(&mut self, identifier: &Identifier) -> bool {
        let was_pending = self.pending.remove(identifier).is_some();
        if was_pending {
            self.hub.remove_waiter(identifier, &self.connection);
        }
        was_pending
    }

    /// Takes an identifier away from a subscription to another call than `call_id`, and ends the subscription if that
    /// was its last identifier. An identifier belongs to one subscription of a connection at most.
    fn release_name(&mut self, identifier: &Identifier, call_id: Option<CallId>) {
        let is_stale = |s: &Subscription| Some(s.log_tail.call_id) != call_id && s.names.contains(identifier);
        let nameless = {
            let mut state = self.connection.state.lock();
            for s in state.subscriptions.iter_mut().filter(|s| is_stale(s)) {
                s.names.retain(|name| name != identifier);
            }
            state.subscriptions.iter().find(|s| s.names.is_empty()).map(|s| s.id)
        };
        if let Some(ended) = nameless.and_then(|id| self.remove_subscription(|s| s.id == id)) {
            self.hub.leave(&ended.log_tail, ended.feed_member_id);
        }
    }

    /// Refuses a subscription too many. One that waits for its call is counted already, and so is one that gives its
    /// only name to the new one.
    fn check_limit(&self, identifier: &Identifier) -> Result<(), SubscribeError> {
        let subscriptions = &self.connection.state.lock().subscriptions;
        let is_counted = self.pending.contains_key(identifier)
            || subscriptions.iter().any(|s| s.names == std::slice::from_ref(identifier));
        if !is_counted && subscriptions.len() + self.pending.len() >= MAX_SUBSCRIPTIONS {
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

    /// Confirms the running subscription to a call at its cursor; returns whether there is one.
    async fn confirm_running(&mut self, attempt: &SubscribeAttempt, info: &CallInfo) -> Result<bool, SubscribeError> {
        let request = &attempt.request;
        let is_of_call = |s: &Subscription| s.log_tail.call_id == info.call_id;
        if !self.connection.state.lock().subscriptions.iter().any(is_of_call) {
            return Ok(false);
        }
        // The result is not needed, but a cursor that does not fit the log has to be refused here too.
        self.start_seq(attempt, info).await?;
        let running = {
            let mut state = self.connection.state.lock();
            state.subscriptions.iter_mut().find(|s| is_of_call(s)).map(|s| {
                // No feed writes to it now, so its cursor does not move before it is confirmed.
                s.caught_up = false;
                (Arc::clone(&s.log_tail), s.cursor)
            })
        };
        let Some((log_tail, cursor_seq)) = running else { return Ok(false) };
        let Some(cursor) = in_time(self.store.cursor_at(info.call_id, cursor_seq)).await? else {
            return reject(ErrorCode::SubscriptionFailed, CALL_CHANGED);
        };
        // `info` was read earlier, and events after its head may have been sent since.
        let info = &CallInfo { head: info.head.max(cursor_seq), ..info.clone() };
        self.release_name(&request.identifier, Some(info.call_id));
        self.send_confirmation(
            &request.identifier,
            info,
            Some(cursor),
            "already subscribed; the running subscription goes on",
        );
        if let Some(s) =
            self.connection.state.lock().subscriptions.iter_mut().find(|s| Arc::ptr_eq(&s.log_tail, &log_tail))
        {
            // Added only now: for a name whose request is refused, the client must get no `call_merged` later.
            if !s.names.contains(&request.identifier) {
                s.names.push(request.identifier.clone());
            }
            s.raise_confirmed_head(info.head);
        }
        self.hub.advance_head(&log_tail, info.head, info.status.is_ended());
        Ok(true)
    }

    /// Joins the call's feed, then reads the head, then confirms. Returns false if the identifier leads to another call
    /// or to none by then.
    async fn start_subscription(
        &mut self,
        attempt: &SubscribeAttempt,
        call_id: CallId,
    ) -> Result<bool, SubscribeError> {
        let request = &attempt.request;
        self.check_limit(&request.identifier)?;
        let id = self.next_subscription_id;
        // The call SID and the cursor are set after the head was read. Until then, `Seq::MAX` counts as no lag.
        let names = vec![request.identifier.clone()];
        let log_tail = self.add_subscription(call_id, names, String::new(), Seq::MAX);
        let started = self.read_head_and_start(attempt, call_id).await;
        let Ok(Some((info, cursor))) = started else {
            if let Some(s) = self.remove_subscription(|s| s.id == id) {
                self.hub.leave(&s.log_tail, s.feed_member_id);
            }
            return started.map(|_| false);
        };
        self.release_name(&request.identifier, Some(call_id));
        self.send_confirmation(&request.identifier, &info, Some(cursor), "subscribed");
        {
            let mut state = self.connection.state.lock();
            let Some(s) = state.subscriptions.iter_mut().find(|s| s.id == id) else { return Ok(false) };
            s.cursor = cursor.seq();
            s.confirmed_head = info.head;
            s.call_sid.clone_from(&info.call_sid);
        }
        self.hub.advance_head(&log_tail, info.head, info.status.is_ended());
        Ok(true)
    }

    /// Reads the head of a call whose feed was joined, and the cursor at which the subscription starts. `None` if the
    /// identifier leads to another call or to none by now.
    async fn read_head_and_start(
        &self,
        attempt: &SubscribeAttempt,
        call_id: CallId,
    ) -> Result<Option<(CallInfo, Cursor)>, SubscribeError> {
        let Some(info) = in_time(self.store.resolve(&attempt.request.identifier)).await? else { return Ok(None) };
        if info.call_id != call_id {
            return Ok(None);
        }
        let start = self.start_seq(attempt, &info).await?;
        Ok(in_time(self.store.cursor_at(call_id, start)).await?.map(|cursor| (info, cursor)))
    }

    /// The seq after which the subscription starts.
    async fn start_seq(
        &self,
        SubscribeAttempt { request, requested_at }: &SubscribeAttempt,
        info: &CallInfo,
    ) -> Result<Seq, SubscribeError> {
        if let (SubscribeFrom::Live, Some(requested_at)) = (&request.from, requested_at) {
            // Live starts at the time of the request, so the events that created the call later are included.
            let time = requested_at.plus_secs(-MAX_CLOCK_SKEW_SECS);
            return Ok(in_time(self.store.head_at(info.call_id, time)).await?);
        }
        let start = in_time(self.store.start_seq(info, &request.from, request.call_id)).await?;
        start.map_err(|invalid| SubscribeError::Rejected(ErrorCode::CursorInvalid, invalid.to_string()))
    }

    pub(super) fn send_confirmation(
        &self,
        identifier: &Identifier,
        info: &CallInfo,
        cursor: Option<Cursor>,
        message: &str,
    ) {
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
        let was_pending = self.stop_waiting(identifier);
        let mut ended = self.remove_subscription(|s| s.names.contains(identifier));
        let has_subscriptions = || !self.connection.state.lock().subscriptions.is_empty();
        if ended.is_none() && has_subscriptions() {
            // The client may have subscribed to the call by another identifier.
            match in_time(self.store.resolve(identifier)).await {
                Ok(Some(info)) => ended = self.remove_subscription(|s| s.log_tail.call_id == info.call_id),
                Ok(None) => {}
                Err(_) => {
                    let message = "the storage does not answer; try again";
                    self.send_error(ErrorCode::SubscriptionFailed, message, Some(identifier.to_string()));
                    return;
                }
            }
        }
        if let Some(s) = &ended {
            self.hub.leave(&s.log_tail, s.feed_member_id);
        }
        let message = if ended.is_some() || was_pending { "unsubscribed" } else { "was not subscribed" };
        self.send(&ServerMessage::UnsubscribeConfirmed(IdentifierMessage {
            identifier: identifier.to_string(),
            call_id: ended.as_ref().map(|s| s.log_tail.call_id),
            message: message.into(),
        }));
    }
}
