//! What a client may ask for, and the answers.

use std::sync::Arc;
use std::time::Instant;

use callscope_common::protocol::{
    ClientMessage, CloseReason, ErrorCode, From, MAX_SUBSCRIPTIONS, Named, Pong, ServerMessage, Subscribe,
    SubscriptionConfirmed,
};
use callscope_common::{CallId, Identifier, Seq};
use tracing::warn;
use tungstenite::Message;

use super::{Session, in_time};
use crate::live::limit::Allowed;
use crate::store::StoreError;
use crate::store::calls::CallInfo;

/// Times a call may be merged or deleted under a subscription's hands before it gives up.
const TRIES: usize = 4;

/// Why a subscription is refused.
enum Refused {
    With(ErrorCode, String),
    Store(StoreError),
}

impl std::convert::From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::With(code, message.into()))
}

impl Session {
    pub(super) async fn on_message(&mut self, message: Message) -> Option<CloseReason> {
        let allowed = self.limit.take(Instant::now());
        if allowed == Allowed::Never {
            return Some(CloseReason::RateExceeded);
        }
        match message {
            Message::Pong(_) => self.last_pong = Instant::now(),
            Message::Text(_) | Message::Binary(_) | Message::Ping(_) if allowed == Allowed::No => {
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

    pub(super) async fn subscribe(&mut self, request: Subscribe) {
        let identifier = request.identifier.clone();
        if let Err(refused) = self.try_subscribe(request).await {
            self.forget_pending(&identifier);
            let (code, message) = match refused {
                Refused::With(code, message) => (code, message),
                Refused::Store(error) => {
                    warn!(connection_id = %self.connection.connection_id, %error, "cannot subscribe");
                    (ErrorCode::SubscriptionFailed, "the storage does not answer; try again".into())
                }
            };
            self.send_error(code, message, Some(identifier.to_string()));
        }
    }

    async fn try_subscribe(&mut self, request: Subscribe) -> Result<(), Refused> {
        for _ in 0..TRIES {
            let Some(info) = in_time(self.store.resolve(&request.identifier)).await? else {
                if self.await_call(&request)? && in_time(self.store.resolve(&request.identifier)).await?.is_some() {
                    // It appeared in between: whoever announced it may have found nobody waiting.
                    continue;
                }
                return Ok(());
            };
            self.forget_pending(&request.identifier);
            if !self.may_follow(&request.identifier, info.call_id).await? {
                return refuse(ErrorCode::Forbidden, "the token does not allow this call");
            }
            if self.confirm_again(&request, &info)? || self.join(&request, info.call_id).await? {
                return Ok(());
            }
        }
        refuse(ErrorCode::SubscriptionFailed, "the call changes too quickly; try again")
    }

    /// Waits for a call that is not known yet, where the client wants to; says whether it began to.
    fn await_call(&mut self, request: &Subscribe) -> Result<bool, Refused> {
        let identifier = &request.identifier;
        if !self.connection.identity.may_name(identifier) {
            return refuse(ErrorCode::Forbidden, "the token does not allow this call");
        }
        if !request.wait {
            return refuse(ErrorCode::CallNotFound, "no such call; `wait: true` waits for it");
        }
        let is_new = !self.pending.contains_key(identifier);
        if is_new {
            self.check_limit()?;
            self.hub.wait_for(identifier, &self.connection);
        }
        self.pending.insert(identifier.clone(), request.clone());
        self.send(&ServerMessage::SubscriptionPending(Named {
            identifier: identifier.to_string(),
            call_id: None,
            message: "no such call yet; the subscription begins when it appears".into(),
        }));
        Ok(is_new)
    }

    fn forget_pending(&mut self, identifier: &Identifier) {
        if self.pending.remove(identifier).is_some() {
            self.hub.wait_no_more(identifier, &self.connection);
        }
    }

    fn check_limit(&self) -> Result<(), Refused> {
        if self.connection.wire.lock().subscriptions.len() + self.pending.len() >= MAX_SUBSCRIPTIONS {
            return refuse(ErrorCode::SubscriptionLimit, format!("more than {MAX_SUBSCRIPTIONS} subscriptions"));
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

    /// Confirms a subscription that stands already; says whether one does.
    fn confirm_again(&self, request: &Subscribe, info: &CallInfo) -> Result<bool, Refused> {
        let feed = {
            let mut wire = self.connection.wire.lock();
            let Some(s) = wire.subscriptions.iter_mut().find(|s| s.feed.call_id == info.call_id) else {
                return Ok(false);
            };
            if !s.names.contains(&request.identifier) {
                s.names.push(request.identifier.clone());
            }
            check_cursor(request, info)?;
            s.confirm(info.head);
            Arc::clone(&s.feed)
        };
        self.confirm(&request.identifier, info, "already subscribed; the running subscription goes on");
        self.hub.raise(&feed, info.head, info.status.is_ended());
        Ok(true)
    }

    /// Joins the call's feed, then reads its head, then confirms; says whether the call was still the same.
    async fn join(&mut self, request: &Subscribe, call_id: CallId) -> Result<bool, Refused> {
        self.check_limit()?;
        let (id, feed) =
            (self.next_subscription, self.follow(call_id, vec![request.identifier.clone()], String::new(), Seq::MAX));
        let joined = match in_time(self.store.resolve(&request.identifier)).await {
            Ok(Some(info)) if info.call_id == call_id => {
                check_cursor(request, &info).map(|cursor| Some((info, cursor)))
            }
            Ok(_) => Ok(None),
            Err(error) => Err(error.into()),
        };
        let Ok(Some((info, cursor))) = joined else {
            if let Some(s) = self.take(|s| s.id == id) {
                self.hub.leave(&s.feed, s.member);
            }
            return joined.map(|_| false);
        };
        self.confirm(&request.identifier, &info, "subscribed");
        {
            let mut wire = self.connection.wire.lock();
            let Some(s) = wire.subscriptions.iter_mut().find(|s| s.id == id) else { return Ok(false) };
            s.cursor = cursor;
            s.confirmed = info.head;
            s.call_sid.clone_from(&info.call_sid);
        }
        self.hub.raise(&feed, info.head, info.status.is_ended());
        Ok(true)
    }

    pub(super) fn confirm(&self, identifier: &Identifier, info: &CallInfo, message: &str) {
        self.send(&ServerMessage::SubscriptionConfirmed(SubscriptionConfirmed {
            identifier: identifier.to_string(),
            call_sid: info.call_sid.clone(),
            conversation_id: info.conversation_id.clone(),
            status: info.status,
            message: message.to_owned(),
            call_id: info.call_id,
            seq: info.head,
            cursor: None,
        }));
    }

    async fn unsubscribe(&mut self, identifier: &Identifier) {
        self.forget_pending(identifier);
        let mut ended = self.take(|s| s.names.contains(identifier));
        let has_others = || !self.connection.wire.lock().subscriptions.is_empty();
        if ended.is_none() && has_others() {
            // Perhaps by another name than the one it was subscribed by.
            match in_time(self.store.resolve(identifier)).await {
                Ok(Some(info)) => ended = self.take(|s| s.feed.call_id == info.call_id),
                Ok(None) => {}
                Err(_) => {
                    let message = "the storage does not answer; try again";
                    self.send_error(ErrorCode::SubscriptionFailed, message, Some(identifier.to_string()));
                    return;
                }
            }
        }
        if let Some(s) = &ended {
            self.hub.leave(&s.feed, s.member);
        }
        let message = if ended.is_some() { "unsubscribed" } else { "was not subscribed" };
        self.send(&ServerMessage::UnsubscribeConfirmed(Named {
            identifier: identifier.to_string(),
            call_id: ended.as_ref().map(|s| s.feed.call_id),
            message: message.into(),
        }));
    }
}

/// The seq to begin behind.
fn check_cursor(request: &Subscribe, info: &CallInfo) -> Result<Seq, Refused> {
    if request.call_id.is_some_and(|call_id| call_id != info.call_id) {
        return refuse(
            ErrorCode::CursorInvalid,
            "the cursor belongs to another life of the call; subscribe from the start",
        );
    }
    match request.from {
        From::Start => Ok(0),
        From::Live => Ok(info.head),
        From::After(after) if after > info.head => refuse(
            ErrorCode::CursorInvalid,
            format!("the cursor {after} lies beyond the head {}; subscribe from the start", info.head),
        ),
        From::After(after) => Ok(after),
        From::Behind(_) => Ok(0),
    }
}
