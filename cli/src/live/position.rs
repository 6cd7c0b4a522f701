//! How far a stream has come: a pure state machine over the server's messages.

use callscope_common::protocol::{CallMerged, ErrorCode, ErrorMessage, ServerMessage, SubscriptionConfirmed};
use callscope_common::{CallId, CallStatus, Identifier, Seq};
use serde_json::json;

use super::{Gap, Incoming, Request};
use crate::client::TOKEN_HINT;
use crate::exit::{Exit, Failure};

/// Where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the log's first event.
    First,
    /// With the next event to come.
    Live,
    /// Behind a place reached before.
    After(Place),
}

/// A place in a call's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// The last event that came; 0 for none.
    pub seq: Seq,
    /// The life of the call that `seq` counts in.
    pub call_id: Option<CallId>,
}

/// How far a stream has come.
#[derive(Debug)]
pub struct Position {
    identifier: Identifier,
    wait: bool,
    follow: bool,
    start: Start,
    place: Place,
    /// The newest event known to exist.
    head: Seq,
    status: Option<CallStatus>,
    /// A confirmation came: `place` and `head` count, and are resumed from.
    confirmed: bool,
    /// The call's result came, or its end was confirmed.
    over: bool,
}

/// What to do with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Pass it on.
    Pass,
    /// It was seen before.
    Repeat,
    /// Events are missing before it: connect again from here.
    Hole(Gap),
    /// The place is no good: subscribe again, from the start.
    Restart(Gap),
    /// Pass it on; what follows starts over.
    Merged(Gap),
    /// The server cannot now.
    Later(String),
    /// It will not get better.
    Refused(Failure),
}

impl Position {
    /// At the start that was asked for.
    pub fn new(request: &Request) -> Self {
        let place = if let Start::After(place) = request.start { place } else { Place::default() };
        Self {
            identifier: request.identifier.clone(),
            wait: request.wait,
            follow: request.follow,
            start: request.start,
            place,
            head: place.seq,
            status: None,
            confirmed: false,
            over: false,
        }
    }

    /// Where the stream stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The call's status as last heard.
    pub fn status(&self) -> Option<CallStatus> {
        self.status
    }

    /// The message that takes the stream up from here.
    pub fn subscribe(&self) -> String {
        let mut message = json!({ "subscribe": self.identifier });
        if self.wait {
            message["wait"] = true.into();
        }
        match (self.start, self.confirmed, self.place.call_id) {
            (Start::Live, false, _) => message["history"] = false.into(),
            (Start::First, false, _) => {}
            (_, _, call_id) => {
                message["after"] = self.place.seq.into();
                if let Some(call_id) = call_id {
                    message["call_id"] = call_id.to_string().into();
                }
            }
        }
        message.to_string()
    }

    /// Takes in a message.
    pub fn take(&mut self, incoming: &Incoming) -> Verdict {
        if let Some(seq) = incoming.seq {
            return self.event(seq, &incoming.message);
        }
        match &incoming.message {
            ServerMessage::SubscriptionConfirmed(confirmed) => self.confirm(confirmed),
            ServerMessage::CallMerged(merged) => self.merge(merged),
            ServerMessage::Error(error) => self.refuse(error),
            _ => Verdict::Pass,
        }
    }

    /// Whether all that was asked for has come.
    pub fn is_done(&self) -> bool {
        self.confirmed && self.place.seq >= self.head && (self.over || !self.follow)
    }

    /// Whether the call is over.
    pub fn is_over(&self) -> bool {
        self.over
    }

    fn event(&mut self, seq: Seq, message: &ServerMessage) -> Verdict {
        let expected = self.place.seq + 1;
        if seq < expected {
            return Verdict::Repeat;
        }
        if seq > expected {
            return Verdict::Hole(Gap::Hole { expected, found: seq });
        }
        self.place.seq = seq;
        self.head = self.head.max(seq);
        match message {
            ServerMessage::CallStatus(event) => self.status = Some(event.status),
            ServerMessage::CallCompleted(event) => {
                self.status = Some(event.call_data.status);
                self.over = true;
            }
            _ => {}
        }
        Verdict::Pass
    }

    fn confirm(&mut self, confirmed: &SubscriptionConfirmed) -> Verdict {
        if self.start == Start::Live && !self.confirmed {
            self.place.seq = confirmed.seq;
        }
        self.place.call_id = Some(confirmed.call_id);
        self.head = confirmed.seq;
        self.status = Some(confirmed.status);
        self.over = confirmed.status.is_ended();
        self.confirmed = true;
        Verdict::Pass
    }

    fn merge(&mut self, merged: &CallMerged) -> Verdict {
        self.place = Place { seq: 0, call_id: Some(merged.call_id) };
        // Until its own confirmation comes, any event may be the last that is known.
        self.head = 0;
        self.over = false;
        self.confirmed = true;
        Verdict::Merged(Gap::Merged { call_id: merged.call_id })
    }

    fn refuse(&mut self, error: &ErrorMessage) -> Verdict {
        let said = &error.message;
        let refused = |exit, why: String| Verdict::Refused(Failure::new(exit, why));
        match error.code {
            ErrorCode::CursorInvalid => {
                let gap = Gap::CursorInvalid { after: self.place.seq };
                self.start = Start::First;
                self.place = Place::default();
                self.head = 0;
                self.confirmed = false;
                self.over = false;
                Verdict::Restart(gap)
            }
            ErrorCode::SubscriptionFailed | ErrorCode::RateLimited => Verdict::Later(said.clone()),
            ErrorCode::CallNotFound => Verdict::Refused(
                Failure::not_found(format!("no call is known as {}", self.identifier))
                    .hint("see which there are: callscope calls ls; or wait for it: add --wait"),
            ),
            ErrorCode::InvalidIdentifier => refused(Exit::Usage, said.clone()),
            ErrorCode::Forbidden => {
                refused(Exit::NotAllowed, format!("not allowed to follow {}: {said}", self.identifier))
            }
            ErrorCode::AuthenticationFailed => {
                Verdict::Refused(Failure::new(Exit::NotAllowed, format!("not logged in: {said}")).hint(TOKEN_HINT))
            }
            ErrorCode::InvalidMessageFormat | ErrorCode::SubscriptionLimit => {
                refused(Exit::Error, format!("the server refused to subscribe: {said}"))
            }
            ErrorCode::Unknown => Verdict::Pass,
        }
    }
}

#[cfg(test)]
#[path = "position_tests.rs"]
mod tests;
