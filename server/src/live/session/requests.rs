//! What a client may ask for, and the answers.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use callscope_common::protocol::{
    ClientMessage, CloseReason, ErrorCode, IdentifierMessage, MAX_SUBSCRIPTIONS, Pong, ServerMessage, Subscribe,
    SubscribeFrom, SubscriptionConfirmed,
};
use callscope_common::{CallId, Cursor, Identifier, Seq, Timestamp};
use tracing::warn;
use tungstenite::Message;

use super::{Pending, Session, in_time};
use crate::live::connection::Subscription;
use crate::live::rate_limit::Allowed;
use crate::store::StoreError;
use crate::store::calls::CallInfo;

/// Times a call may be merged or deleted under a subscription's hands before it gives up.
const TRIES: usize = 4;

/// Servers' clocks may differ by so much, in seconds: a subscription that waited without history begins so much before its request.
const CLOCKS_DIFFER_SECS: i64 = 5;

/// A subscription that is asked for.
struct Asked {
    request: Subscribe,
    /// Since when it waited for its call.
    since: Option<Timestamp>,
}

/// Why a subscription is refused.
enum Refused {
    With(ErrorCode, String),
    Store(StoreError),
}

impl From<StoreError> for Refused {
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

    async fn subscribe(&mut self, request: Subscribe) {
        let identifier = request.identifier.clone();
        let mut asked = Asked { request, since: None };
        if let Err(refused) = self.try_subscribe(&mut asked).await {
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

    /// Subscribes to a call that was waited for and appeared. Where the storage fails, the wait is given back, to be tried again.
    pub(super) async fn subscribe_pending(&mut self, pending: Pending) -> Result<(), (Pending, StoreError)> {
        let Pending { request, since } = pending;
        let mut asked = Asked { request, since: Some(since) };
        match self.try_subscribe(&mut asked).await {
            Ok(()) => Ok(()),
            Err(Refused::With(code, message)) => {
                self.send_error(code, message, Some(asked.request.identifier.to_string()));
                Ok(())
            }
            Err(Refused::Store(error)) => Err((Pending { request: asked.request, since }, error)),
        }
    }

    async fn try_subscribe(&mut self, asked: &mut Asked) -> Result<(), Refused> {
        for _ in 0..TRIES {
            let request = &asked.request;
            let Some(info) = in_time(self.store.resolve(&request.identifier)).await? else {
                let since = asked.since.unwrap_or_else(|| Timestamp::from_system_time(SystemTime::now()));
                if self.await_call(request, since)? && in_time(self.store.resolve(&request.identifier)).await?.is_some()
                {
                    // It appeared in between: whoever announced it may have found nobody waiting.
                    asked.since = Some(since);
                    continue;
                }
                return Ok(());
            };
            if !self.may_follow(&request.identifier, info.call_id).await? {
                return refuse(ErrorCode::Forbidden, "the token does not allow this call");
            }
            self.release_name(&request.identifier, Some(info.call_id));
            if self.confirm_again(asked, &info).await? || self.join(asked, info.call_id).await? {
                self.forget_pending(&request.identifier);
                return Ok(());
            }
        }
        refuse(ErrorCode::SubscriptionFailed, "the call changes too quickly; try again")
    }

    /// Waits for a call that is not known yet, where the client wants to; says whether it began to.
    fn await_call(&mut self, request: &Subscribe, since: Timestamp) -> Result<bool, Refused> {
        let identifier = &request.identifier;
        if !self.connection.identity.may_name(identifier) {
            return refuse(ErrorCode::Forbidden, "the token does not allow this call");
        }
        if !request.wait {
            return refuse(ErrorCode::CallNotFound, "no such call; `wait: true` waits for it");
        }
        self.release_name(identifier, None);
        let is_new = !self.pending.contains_key(identifier);
        if is_new {
            self.check_limit()?;
            self.hub.wait_for(identifier, &self.connection);
        }
        self.pending.insert(identifier.clone(), Pending { request: request.clone(), since });
        self.send(&ServerMessage::SubscriptionPending(IdentifierMessage {
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

    /// An identifier belongs to one subscription of a connection, or to one that is waited for: where it now leads to another call, or to
    /// none, the one that had it loses it, and ends where it has no other.
    fn release_name(&mut self, identifier: &Identifier, call_id: Option<CallId>) {
        let is_stale = |s: &Subscription| Some(s.feed.call_id) != call_id && s.names.contains(identifier);
        let nameless = {
            let mut wire = self.connection.wire.lock();
            for s in wire.subscriptions.iter_mut().filter(|s| is_stale(s)) {
                s.names.retain(|name| name != identifier);
            }
            wire.subscriptions.iter().find(|s| s.names.is_empty()).map(|s| s.id)
        };
        if let Some(gone) = nameless.and_then(|id| self.take(|s| s.id == id)) {
            self.hub.leave(&gone.feed, gone.member);
        }
    }

    /// A subscription that was waited for has its place already.
    fn check_limit_for(&self, request: &Subscribe) -> Result<(), Refused> {
        if self.pending.contains_key(&request.identifier) { Ok(()) } else { self.check_limit() }
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

    /// Confirms a subscription that stands already, at the place where it is; says whether one does.
    async fn confirm_again(&mut self, asked: &Asked, info: &CallInfo) -> Result<bool, Refused> {
        let request = &asked.request;
        let is_it = |s: &Subscription| s.feed.call_id == info.call_id;
        if !self.connection.wire.lock().subscriptions.iter().any(is_it) {
            return Ok(false);
        }
        self.begin(asked, info).await?;
        let standing = {
            let mut wire = self.connection.wire.lock();
            wire.subscriptions.iter_mut().find(|s| is_it(s)).map(|s| {
                if !s.names.contains(&request.identifier) {
                    s.names.push(request.identifier.clone());
                }
                // From here on only this task writes to it, so that its place stays what it is until it is confirmed.
                s.settled = false;
                (Arc::clone(&s.feed), s.cursor)
            })
        };
        let Some((feed, place)) = standing else { return Ok(false) };
        let Some(cursor) = in_time(self.store.cursor_at(info.call_id, place)).await? else {
            return refuse(ErrorCode::SubscriptionFailed, "the call changes too quickly; try again");
        };
        // What was sent meanwhile may be newer than the head that was read before.
        let info = &CallInfo { head: info.head.max(place), ..info.clone() };
        self.confirm(&request.identifier, info, Some(cursor), "already subscribed; the running subscription goes on");
        if let Some(s) = self.connection.wire.lock().subscriptions.iter_mut().find(|s| Arc::ptr_eq(&s.feed, &feed)) {
            s.confirm(info.head);
        }
        self.hub.raise(&feed, info.head, info.status.is_ended());
        Ok(true)
    }

    /// Joins the call's feed, then reads its head, then confirms; says whether the call was still the same.
    async fn join(&mut self, asked: &Asked, call_id: CallId) -> Result<bool, Refused> {
        let request = &asked.request;
        self.check_limit_for(request)?;
        let (id, feed) =
            (self.next_subscription, self.follow(call_id, vec![request.identifier.clone()], String::new(), Seq::MAX));
        let begun = self.begin_at_head(asked, call_id).await;
        let Ok(Some((info, cursor))) = begun else {
            if let Some(s) = self.take(|s| s.id == id) {
                self.hub.leave(&s.feed, s.member);
            }
            return begun.map(|_| false);
        };
        self.confirm(&request.identifier, &info, Some(cursor), "subscribed");
        {
            let mut wire = self.connection.wire.lock();
            let Some(s) = wire.subscriptions.iter_mut().find(|s| s.id == id) else { return Ok(false) };
            s.cursor = cursor.seq();
            s.confirmed = info.head;
            s.call_sid.clone_from(&info.call_sid);
        }
        self.hub.raise(&feed, info.head, info.status.is_ended());
        Ok(true)
    }

    /// Reads the head of a call whose feed was joined, and where the subscription begins. `None` where the name leads elsewhere by now.
    async fn begin_at_head(&self, asked: &Asked, call_id: CallId) -> Result<Option<(CallInfo, Cursor)>, Refused> {
        let Some(info) = in_time(self.store.resolve(&asked.request.identifier)).await? else { return Ok(None) };
        if info.call_id != call_id {
            return Ok(None);
        }
        let begin = self.begin(asked, &info).await?;
        Ok(in_time(self.store.cursor_at(call_id, begin)).await?.map(|cursor| (info, cursor)))
    }

    /// The seq to begin behind.
    async fn begin(&self, Asked { request, since }: &Asked, info: &CallInfo) -> Result<Seq, Refused> {
        if let (SubscribeFrom::Live, Some(since)) = (&request.from, since) {
            // Live from the request on: the event that made the call came after it.
            return Ok(in_time(self.store.head_at(info.call_id, since.plus_secs(-CLOCKS_DIFFER_SECS))).await?);
        }
        let begin = in_time(self.store.start_seq(info, &request.from, request.call_id)).await?;
        begin.map_err(|invalid| Refused::With(ErrorCode::CursorInvalid, invalid.to_string()))
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
        self.send(&ServerMessage::UnsubscribeConfirmed(IdentifierMessage {
            identifier: identifier.to_string(),
            call_id: ended.as_ref().map(|s| s.feed.call_id),
            message: message.into(),
        }));
    }
}
