//! The position of a stream in a call's log: a state machine over the server's messages, without input and output.

use callscope_common::protocol::{
    CallMerged, ClientMessage, ErrorCode, ErrorMessage, ServerMessage, Subscribe, SubscribeFrom, SubscriptionConfirmed,
};
use callscope_common::{CallStatus, Identifier, Seq};

use super::{CursorText, Gap, Incoming, Place, Request};
use crate::api::TOKEN_HINT;
use crate::exit::{Exit, Failure};

/// Where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the first event of the log.
    First,
    /// At the next event to come.
    Live,
    /// After a place that an earlier stream reached.
    After(Place),
}

/// How far a stream has come, and what the server has to be asked next.
#[derive(Debug)]
pub(crate) struct Position {
    identifier: Identifier,
    wait: bool,
    follow: bool,
    start: Start,
    place: Place,
    /// Whether `place.seq` is known. After a cursor that only the server can read, it is unknown until the first event.
    is_seq_known: bool,
    /// The newest event known to exist.
    head: Seq,
    status: Option<CallStatus>,
    /// The subscription was confirmed, so `place` and `head` are valid and the stream can be resumed.
    confirmed: bool,
    /// What the last subscription asked for.
    requested: RequestedStart,
    /// Whether the server accepts cursors; servers of earlier versions refuse them.
    takes_cursors: bool,
    /// Whether the last confirmation proves that no event is missing; see [`Position::is_proven`].
    proven: bool,
    /// The call's result came, or its end was confirmed.
    over: bool,
}

/// What a subscription asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestedStart {
    /// The log from its start.
    Start,
    /// New events only.
    Live,
    /// The events after a seq.
    Seq,
    /// The events after a cursor.
    Cursor,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Pass it on.
    Pass,
    /// Drop it: it was passed on before.
    Repeat,
    /// An event is missing before it: connect again from the current place.
    Hole(Gap),
    /// The server refused the place: subscribe again from the start.
    ResubscribeFromStart(Gap),
    /// The server is of an earlier version that refuses cursors: subscribe again with the seq.
    ResubscribeWithSeq,
    /// Pass it on. The log of another call follows from its start.
    Merged(Gap),
    /// The server cannot subscribe now, for this reason: connect again later.
    RetryLater(String),
    /// The server refuses the subscription for good.
    Refused(Failure),
}

impl Position {
    pub(crate) fn new(request: &Request) -> Self {
        let place = if let Start::After(place) = request.start { place } else { Place::default() };
        Self {
            identifier: request.identifier.clone(),
            wait: request.wait,
            follow: request.follow,
            start: request.start,
            place,
            is_seq_known: place.seq > 0 || place.cursor.is_none_or(|cursor| cursor.seq().is_some()),
            head: place.seq,
            status: None,
            confirmed: false,
            requested: RequestedStart::Start,
            takes_cursors: true,
            proven: false,
            over: false,
        }
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Returns the last status of the call that the server sent.
    pub(crate) fn status(&self) -> Option<CallStatus> {
        self.status
    }

    /// Returns the message that subscribes from the current place: with the cursor if there is one. Servers of earlier
    /// versions get the seq and the `call_id` of its log.
    pub(crate) fn subscribe(&mut self) -> String {
        let cursor = self.place.cursor.filter(|_| self.takes_cursors);
        self.requested = match (self.start, self.confirmed) {
            _ if cursor.is_some() => RequestedStart::Cursor,
            (Start::Live, false) => RequestedStart::Live,
            (Start::First, false) => RequestedStart::Start,
            _ => RequestedStart::Seq,
        };
        let from = match (self.requested, cursor) {
            (_, Some(cursor)) => SubscribeFrom::Behind(cursor.as_str().to_owned()),
            (RequestedStart::Live, None) => SubscribeFrom::Live,
            (RequestedStart::Seq, None) => SubscribeFrom::After(self.place.seq),
            _ => SubscribeFrom::Start,
        };
        let call_id = self.place.call_id.filter(|_| self.requested == RequestedStart::Seq);
        ClientMessage::Subscribe(Subscribe { identifier: self.identifier.clone(), from, call_id, wait: self.wait })
            .to_json()
    }

    /// Returns whether the last confirmation proves that no event is missing: the server found the cursor in its log,
    /// or sends the log from its start.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Updates the position by a message, and says what to do with the message.
    pub(crate) fn take(&mut self, incoming: &Incoming) -> Verdict {
        if let Some(seq) = incoming.seq {
            return self.event(seq, incoming);
        }
        match &incoming.message {
            ServerMessage::SubscriptionConfirmed(confirmed) => self.confirm(confirmed, incoming.cursor),
            ServerMessage::SubscriptionPending(_) => self.wait_for_call(),
            ServerMessage::CallMerged(merged) => self.merge(merged),
            ServerMessage::Error(error) => self.refuse(error),
            _ => Verdict::Pass,
        }
    }

    /// Returns whether everything that was asked for has arrived.
    pub(crate) fn is_done(&self) -> bool {
        self.confirmed && self.place.seq >= self.head && (self.over || !self.follow)
    }

    /// Returns whether the call has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    fn event(&mut self, seq: Seq, incoming: &Incoming) -> Verdict {
        let expected = self.place.seq + 1;
        if self.is_seq_known && seq < expected {
            return Verdict::Repeat;
        }
        if self.is_seq_known && seq > expected {
            return Verdict::Hole(Gap::Hole { expected, found: seq });
        }
        self.is_seq_known = true;
        (self.place.seq, self.place.cursor) = (seq, incoming.cursor);
        self.head = self.head.max(seq);
        match &incoming.message {
            ServerMessage::CallStatus(event) => self.status = Some(event.status),
            ServerMessage::CallCompleted(event) => {
                self.status = Some(event.call_data.status);
                self.over = true;
            }
            _ => {}
        }
        Verdict::Pass
    }

    fn confirm(&mut self, confirmed: &SubscriptionConfirmed, cursor: Option<CursorText>) -> Verdict {
        let is_another = self.place.call_id.is_some_and(|call_id| call_id != confirmed.call_id);
        if is_another && self.place.seq > 0 {
            // The identifier leads to another record than before, and no `call_merged` said so.
            let gap = Gap::CursorInvalid { after: self.place.seq };
            self.forget(Place::default());
            return Verdict::Hole(gap);
        }
        let begins = cursor.map(|cursor| cursor.seq());
        if self.start == Start::Live && !self.confirmed {
            self.is_seq_known = begins != Some(None);
            self.place.seq = begins.flatten().unwrap_or(confirmed.seq);
        } else if !self.is_seq_known
            && let Some(seq) = begins.flatten()
        {
            (self.place.seq, self.is_seq_known) = (seq, true);
        }
        self.proven = cursor.is_some() && matches!(self.requested, RequestedStart::Cursor | RequestedStart::Start);
        self.place.call_id = Some(confirmed.call_id);
        self.place.cursor = cursor;
        self.head = confirmed.seq;
        self.status = Some(confirmed.status);
        self.over = confirmed.status.is_ended();
        self.confirmed = true;
        Verdict::Pass
    }

    /// The call does not exist yet. Its whole log will be new, even if it begins while there is no connection.
    fn wait_for_call(&mut self) -> Verdict {
        self.proven = false;
        if self.start == Start::Live && !self.confirmed {
            self.start = Start::First;
        }
        Verdict::Pass
    }

    /// The log of the other record follows from its start. Its head is unknown until the confirmation.
    fn merge(&mut self, merged: &CallMerged) -> Verdict {
        self.forget(Place::start_of(merged.call_id));
        Verdict::Merged(Gap::Merged { call_id: merged.call_id })
    }

    fn start_over(&mut self) -> Verdict {
        let gap = Gap::CursorInvalid { after: self.place.seq };
        self.forget(Place::default());
        Verdict::ResubscribeFromStart(gap)
    }

    fn forget(&mut self, place: Place) {
        self.start = Start::First;
        self.place = place;
        self.is_seq_known = true;
        self.head = 0;
        self.confirmed = false;
        self.over = false;
        // The server sends the log from its start without being asked, so the next confirmation is for that.
        self.requested = RequestedStart::Start;
    }

    fn refuse(&mut self, error: &ErrorMessage) -> Verdict {
        let message = &error.message;
        let refused = |exit, why: String| Verdict::Refused(Failure::new(exit, why));
        match error.code.known() {
            Some(ErrorCode::CursorInvalid) => self.start_over(),
            Some(ErrorCode::InvalidMessageFormat) if self.requested == RequestedStart::Cursor => {
                self.takes_cursors = false;
                Verdict::ResubscribeWithSeq
            }
            Some(ErrorCode::SubscriptionFailed | ErrorCode::RateLimited) => Verdict::RetryLater(message.clone()),
            Some(ErrorCode::CallNotFound) => Verdict::Refused(
                Failure::not_found(format!("no call is known as {}", self.identifier))
                    .hint("see which there are: callscope calls ls; or wait for it: add --wait"),
            ),
            Some(ErrorCode::InvalidIdentifier) => refused(Exit::Usage, message.clone()),
            Some(ErrorCode::Forbidden) => {
                refused(Exit::NotAllowed, format!("not allowed to follow {}: {message}", self.identifier))
            }
            Some(ErrorCode::AuthenticationFailed) => {
                Verdict::Refused(Failure::new(Exit::NotAllowed, format!("not logged in: {message}")).hint(TOKEN_HINT))
            }
            Some(ErrorCode::InvalidMessageFormat | ErrorCode::SubscriptionLimit) => {
                refused(Exit::Error, format!("the server refused to subscribe: {message}"))
            }
            _ => Verdict::Pass,
        }
    }
}

#[cfg(test)]
#[path = "position_tests.rs"]
mod tests;
