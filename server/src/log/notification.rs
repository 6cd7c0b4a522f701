//! The wake-up that follows a commit.

use std::sync::Arc;

use callscope_common::event::EventKind;
use callscope_common::{CallId, Identifier, Seq};

/// What a commit changed, for the followers of calls in this process and in others.
#[derive(Debug, Clone)]
pub enum Notification {
    /// Events were appended, in order and without holes from `first`.
    EventsAppended {
        /// The call that has them.
        call_id: CallId,
        /// The seq of the first event.
        first: Seq,
        /// The kind and the WebSocket message of each event.
        events: Vec<(EventKind, Arc<str>)>,
    },
    /// The log has grown; the events are to be read from the database.
    HeadMoved {
        /// The call with that log.
        call_id: CallId,
        /// The seq of the newest event.
        head: Seq,
        /// Whether the call is over.
        ended: bool,
    },
    /// An interim state of a turn. It is not stored.
    PartialTurn {
        /// The call that it belongs to.
        call_id: CallId,
        /// The WebSocket message.
        frame: Arc<str>,
    },
    /// An identifier names a call from now on.
    IdentifierAssigned {
        /// The identifier that was assigned.
        identifier: Identifier,
    },
    /// A record was absorbed by another one.
    Merged {
        /// The absorbed record.
        from: CallId,
        /// The record that remains.
        into: CallId,
    },
    /// A call was deleted.
    Deleted {
        /// The call that was deleted.
        call_id: CallId,
    },
}
