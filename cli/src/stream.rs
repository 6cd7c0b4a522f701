//! Streams that are resumed after a reconnect: the events of one call ([`follow`]), and [`deliveries`].
//!
//! Both are subscriptions of one engine ([`reconnect`]), which keeps a WebSocket open. A call's stream has a
//! [`position`] and resumes there after a break. It returns the events in order, each once. If that is impossible,
//! [`Update::Gap`] says so before the next event.

mod calls;
pub(crate) mod deliveries;
mod handshake;
mod outlets;
mod place;
mod position;
mod reconnect;

use std::time::Duration;

use callscope_common::protocol::ServerMessage;
use callscope_common::{CallId, CallStatus, Identifier, Seq};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::exit::Failure;
use crate::net;
use crate::secret::Secret;
use crate::settings::Settings;

pub(crate) use calls::follow;
use handshake::{Break, Socket};
pub(crate) use outlets::{Inlet, Outlets, queue};
pub(crate) use place::{CursorText, Place, Progress};
pub(crate) use position::Start;
pub(crate) use reconnect::Silence;

/// A server to follow.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// The flags that name the server, for commands that are printed.
    pub(crate) flags: String,
    pub(crate) server: Url,
    pub(crate) token: Option<Secret>,
    pub(crate) silence: Silence,
}

impl Endpoint {
    pub(crate) fn new(settings: &Settings) -> Self {
        if settings.token.is_some() {
            net::warn_if_unencrypted(&settings.server, "the token", settings.console);
        }
        Self {
            flags: settings.flags.clone().unwrap_or_default(),
            server: settings.server.clone(),
            token: settings.token.clone(),
            silence: Silence::default(),
        }
    }
}

/// What to follow, and how.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Any identifier of the call.
    pub(crate) identifier: Identifier,
    pub(crate) start: Start,
    /// Whether to wait for a call that is not known yet.
    pub(crate) wait: bool,
    /// Whether to wait for new events after the existing ones.
    pub(crate) follow: bool,
    /// Whether to reconnect after a break.
    pub(crate) reconnect: bool,
}

/// What happened to a followed call.
#[derive(Debug, Clone)]
// Nearly all updates are messages, so boxing them would cost more than it saves.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Update {
    /// A message of the server, without repeats.
    Message(Incoming),
    /// The first subscription was confirmed, or waits for its call.
    Ready(Place),
    /// The server has been silent for longer than its ping interval.
    Quiet { secs: u32 },
    /// The server sends again.
    Heard,
    /// The connection broke or could not be opened.
    Reconnecting {
        /// 1 for the first attempt after a break.
        attempt: u32,
        /// Time until the next attempt.
        delay: Duration,
        reason: String,
        /// Whether any connection was ever established.
        broke: bool,
    },
    /// The subscription was confirmed after a reconnect.
    Resumed {
        place: Place,
        /// Whether the confirmation proves that no event was missed.
        proven: bool,
    },
    /// The next event does not follow the last one.
    Gap(Gap),
    /// The stream has ended.
    Ended(Ending),
}

/// Updates of one of several followed calls, as a view receives them.
#[derive(Debug)]
pub(crate) struct CallUpdates {
    /// The number of the call.
    pub(crate) call: usize,
    /// May be empty, where all updates are held back or left out.
    pub(crate) updates: Vec<Update>,
    pub(crate) progress: Progress,
}

/// A message with the text it was parsed from.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    pub(crate) raw: String,
    /// [`ServerMessage::Unknown`] also stands for a known type whose fields cannot be parsed.
    pub(crate) message: ServerMessage,
    /// The seq of an event; `None` for other messages.
    pub(crate) seq: Option<Seq>,
    /// The cursor in the message.
    pub(crate) cursor: Option<CursorText>,
}

impl Incoming {
    /// Parses a frame; `None` if it is not a message. An event that this version cannot parse still advances the place:
    /// by its seq if the type is known, and otherwise only with a cursor, which tells events from other messages.
    pub(crate) fn read(raw: String) -> Option<Self> {
        #[derive(Deserialize)]
        struct CommonFields {
            #[serde(rename = "type")]
            kind: String,
            #[serde(default)]
            seq: Option<Seq>,
            #[serde(default)]
            cursor: Option<String>,
        }
        let is_known = match ServerMessage::parse(&raw) {
            Ok(ServerMessage::Unknown(_)) => false,
            Ok(message) => {
                let cursor = message.cursor().and_then(|cursor| cursor.parse().ok());
                return Some(Self { raw, seq: message.seq(), cursor, message });
            }
            Err(_) => true,
        };
        let fields: CommonFields = serde_json::from_str(&raw).ok()?;
        let cursor: Option<CursorText> = fields.cursor.and_then(|cursor| cursor.parse().ok());
        let is_event = fields.kind != "subscription_confirmed" && (is_known || cursor.is_some());
        Some(Self { raw, message: ServerMessage::Unknown(fields.kind), seq: fields.seq.filter(|_| is_event), cursor })
    }
}

/// Why the next event does not follow the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub(crate) enum Gap {
    /// The server's log does not have the place, so the log is sent from its start.
    CursorInvalid {
        /// The last event that arrived.
        after: Seq,
    },
    /// An event came that is not the next one. It is left out, and the missing ones are asked for.
    #[serde(rename = "missing")]
    Hole {
        /// The event that should have come.
        expected: Seq,
        /// The one that came.
        found: Seq,
    },
    /// The call turned out to be a part of another one, whose log follows from its start.
    Merged {
        /// The call that goes on.
        call_id: CallId,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Ending {
    pub(crate) reason: EndReason,
    /// The last status of the call that the server sent.
    pub(crate) status: Option<CallStatus>,
    pub(crate) place: Place,
}

/// Why a stream ended.
#[derive(Debug, Clone)]
pub(crate) enum EndReason {
    /// The call has ended and its whole log has arrived.
    CallEnded,
    /// All existing events have arrived, and the request does not follow.
    CaughtUp,
    Failed(Failure),
}

/// Opens a WebSocket without subscribing, for `doctor`.
pub(crate) async fn probe(endpoint: &Endpoint) -> Result<Socket, Failure> {
    handshake::connect(endpoint).await.map_err(|broken| match broken {
        Break::Lost { reason, .. } => Failure::error(reason),
        Break::Done(EndReason::Failed(failure)) => failure,
        Break::Done(_) | Break::ReceiverGone => Failure::error("the connection ended at once"),
    })
}

/// Returns the command that resumes at `place`. `flags` name the server.
pub(crate) fn resume_command(identifier: &Identifier, place: Place, flags: &str) -> String {
    let after = match place.cursor {
        Some(cursor) => format!(" --after {}", crate::render::shell_word(cursor.as_str())),
        None if place.seq > 0 => format!(" --after {}", place.seq),
        None => String::new(),
    };
    format!("callscope tail{after}{flags} {}", crate::render::last_argument(identifier.as_str()))
}

#[cfg(test)]
#[path = "stream/stream_tests.rs"]
mod tests;
