//! How far a stream has come: a pure state machine over the server's messages.

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
    /// With the log's first event.
    First,
    /// With the next event to come.
    Live,
    /// Behind a place reached before.
    After(Place),
}

/// How far a stream has come.
#[derive(Debug)]
pub(crate) struct Position {
    identifier: Identifier,
    wait: bool,
    follow: bool,
    start: Start,
    place: Place,
    /// Whether `place.seq` is known. It is not behind a cursor that only the server can read, until the first event
    /// comes.
    is_seq_known: bool,
    /// The newest event known to exist.
    head: Seq,
    status: Option<CallStatus>,
    /// The subscription is confirmed: `place` and `head` count, and are resumed from.
    confirmed: bool,
    /// What was asked for last.
    asked: Asked,
    /// Whether the server takes cursors; one of an earlier version refuses them.
    takes_cursors: bool,
    /// Whether the last confirmation proves that all events between the place and it are still to come.
    proven: bool,
    /// The call's result came, or its end was confirmed.
    over: bool,
}

/// What a subscription asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// The log from its start.
    Start,
    /// What comes from now on.
    Live,
    /// What comes behind the number of an event.
    Seq,
    /// What comes behind a cursor.
    Cursor,
}

/// What to do with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Pass it on.
    Pass,
    /// It was seen before.
    Repeat,
    /// It does not follow what came before: connect again from here.
    Hole(Gap),
    /// The place is no good: subscribe again, from the start.
    Restart(Gap),
    /// The server is of an earlier version: subscribe again, in its way.
    Again,
    /// Pass it on; what follows starts over.
    Merged(Gap),
    /// The server cannot now.
    Later(String),
    /// It will not get better.
    Refused(Failure),
}

impl Position {
    /// At the start that was asked for.
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
            asked: Asked::Start,
            takes_cursors: true,
            proven: false,
            over: false,
        }
    }

    /// Where the stream stands.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// The call's status as last heard.
    pub(crate) fn status(&self) -> Option<CallStatus> {
        self.status
    }

    /// The message that takes the stream up from here: a cursor where there is one, which is all that a server
    /// needs. Servers of earlier versions get the number of the event and the record that it counts in.
    pub(crate) fn subscribe(&mut self) -> String {
        let cursor = self.place.cursor.filter(|_| self.takes_cursors);
        self.asked = match (self.start, self.confirmed) {
            _ if cursor.is_some() => Asked::Cursor,
            (Start::Live, false) => Asked::Live,
            (Start::First, false) => Asked::Start,
            _ => Asked::Seq,
        };
        let from = match (self.asked, cursor) {
            (_, Some(cursor)) => SubscribeFrom::Behind(cursor.as_str().to_owned()),
            (Asked::Live, None) => SubscribeFrom::Live,
            (Asked::Seq, None) => SubscribeFrom::After(self.place.seq),
            _ => SubscribeFrom::Start,
        };
        let call_id = self.place.call_id.filter(|_| self.asked == Asked::Seq);
        ClientMessage::Subscribe(Subscribe { identifier: self.identifier.clone(), from, call_id, wait: self.wait })
            .to_json()
    }

    /// Whether the last confirmation proves that nothing is missing: the server found the place of a cursor in its
    /// log, or sends the log from its start.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Takes in a message.
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

    /// Whether all that was asked for has come.
    pub(crate) fn is_done(&self) -> bool {
        self.confirmed && self.place.seq >= self.head && (self.over || !self.follow)
    }

    /// Whether the call is over.
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
            // The name leads to another record than the one that was followed, and no merge was told.
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
        self.proven = cursor.is_some() && matches!(self.asked, Asked::Cursor | Asked::Start);
        self.place.call_id = Some(confirmed.call_id);
        self.place.cursor = cursor;
        self.head = confirmed.seq;
        self.status = Some(confirmed.status);
        self.over = confirmed.status.is_ended();
        self.confirmed = true;
        Verdict::Pass
    }

    /// No such call yet: whatever its log will hold is new, also where it appears while there is no connection.
    fn wait_for_call(&mut self) -> Verdict {
        self.proven = false;
        if self.start == Start::Live && !self.confirmed {
            self.start = Start::First;
        }
        Verdict::Pass
    }

    /// The surviving log follows from its start. Nothing of it is known before its confirmation has come.
    fn merge(&mut self, merged: &CallMerged) -> Verdict {
        self.forget(Place::start_of(merged.call_id));
        Verdict::Merged(Gap::Merged { call_id: merged.call_id })
    }

    fn start_over(&mut self) -> Verdict {
        let gap = Gap::CursorInvalid { after: self.place.seq };
        self.forget(Place::default());
        Verdict::Restart(gap)
    }

    fn forget(&mut self, place: Place) {
        self.start = Start::First;
        self.place = place;
        self.is_seq_known = true;
        self.head = 0;
        self.confirmed = false;
        self.over = false;
        // The next confirmation is of a subscription from the start.
        self.asked = Asked::Start;
    }

    fn refuse(&mut self, error: &ErrorMessage) -> Verdict {
        let said = &error.message;
        let refused = |exit, why: String| Verdict::Refused(Failure::new(exit, why));
        match error.code.known() {
            Some(ErrorCode::CursorInvalid) => self.start_over(),
            Some(ErrorCode::InvalidMessageFormat) if self.asked == Asked::Cursor => {
                self.takes_cursors = false;
                Verdict::Again
            }
            Some(ErrorCode::SubscriptionFailed | ErrorCode::RateLimited) => Verdict::Later(said.clone()),
            Some(ErrorCode::CallNotFound) => Verdict::Refused(
                Failure::not_found(format!("no call is known as {}", self.identifier))
                    .hint("see which there are: callscope calls ls; or wait for it: add --wait"),
            ),
            Some(ErrorCode::InvalidIdentifier) => refused(Exit::Usage, said.clone()),
            Some(ErrorCode::Forbidden) => {
                refused(Exit::NotAllowed, format!("not allowed to follow {}: {said}", self.identifier))
            }
            Some(ErrorCode::AuthenticationFailed) => {
                Verdict::Refused(Failure::new(Exit::NotAllowed, format!("not logged in: {said}")).hint(TOKEN_HINT))
            }
            Some(ErrorCode::InvalidMessageFormat | ErrorCode::SubscriptionLimit) => {
                refused(Exit::Error, format!("the server refused to subscribe: {said}"))
            }
            _ => Verdict::Pass,
        }
    }
}

#[cfg(test)]
#[path = "position_tests.rs"]
mod tests;
