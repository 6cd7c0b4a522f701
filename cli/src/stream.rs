//! Streams that are unbroken across reconnects: of one call ([`follow`]), and of [`deliveries`].
//!
//! Both are subscriptions of one engine ([`reconnect`]), which keeps a WebSocket. A call's stream holds a
//! [`position`], what has come so far, and after any break asks only for what comes after it. What it hands out is
//! in order, each event once; where that was not possible it says so with [`Update::Gap`] before it goes on.

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

/// Where to connect.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// The flags that name it, for commands shown to the user.
    pub(crate) flags: String,
    /// The server as the user named it.
    pub(crate) server: Url,
    /// The access token.
    pub(crate) token: Option<Secret>,
    /// How long the server may be silent.
    pub(crate) silence: Silence,
}

impl Endpoint {
    /// The server and token of `settings`.
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
    /// Where to begin.
    pub(crate) start: Start,
    /// Whether to wait for a call that is not known yet.
    pub(crate) wait: bool,
    /// Whether to go on behind what is there now.
    pub(crate) follow: bool,
    /// Whether to connect again after a break.
    pub(crate) reconnect: bool,
}

/// What happened to a followed call.
#[derive(Debug, Clone)]
// Nearly all that there ever are of these are messages.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Update {
    /// The server said something. Repeats are left out already.
    Message(Incoming),
    /// The first subscription stands, or waits for its call.
    Ready(Place),
    /// Nothing was heard for so long, though the server gives a sign of life more often than that.
    Quiet { secs: u32 },
    /// Something was heard again.
    Heard,
    /// The connection broke, or could not be made.
    Reconnecting {
        /// 1 for the first try after a break.
        attempt: u32,
        /// How long until the next try.
        delay: Duration,
        /// What broke it.
        reason: String,
        /// Whether there was a connection before.
        broke: bool,
    },
    /// The subscription stands again.
    Resumed {
        /// Where it goes on.
        place: Place,
        /// Whether the server's answer proves that nothing was missed.
        proven: bool,
    },
    /// What follows does not follow what came before.
    Gap(Gap),
    /// Nothing more will come.
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

/// A message and the text it was read from.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    /// The frame as it came.
    pub(crate) raw: String,
    /// What it says; [`ServerMessage::Unknown`] also where a known type had unknown contents.
    pub(crate) message: ServerMessage,
    /// The event's place in its log, for messages that are events.
    pub(crate) seq: Option<Seq>,
    /// The cursor that came with it.
    pub(crate) cursor: Option<CursorText>,
}

impl Incoming {
    /// Reads a frame; `None` for what is no message at all. An event whose contents this version cannot read still
    /// moves the place on: one of a known type by its seq, one of an unknown type where it has a cursor as well,
    /// which every event has.
    pub(crate) fn read(raw: String) -> Option<Self> {
        #[derive(Deserialize)]
        struct Least {
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
        let least: Least = serde_json::from_str(&raw).ok()?;
        let cursor: Option<CursorText> = least.cursor.and_then(|cursor| cursor.parse().ok());
        let is_event = least.kind != "subscription_confirmed" && (is_known || cursor.is_some());
        Some(Self { raw, message: ServerMessage::Unknown(least.kind), seq: least.seq.filter(|_| is_event), cursor })
    }
}

/// Why the stream does not simply go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub(crate) enum Gap {
    /// The place does not exist in the call's log as the server has it now: the log is replayed from its start.
    CursorInvalid {
        /// The last event that had come.
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

/// How a stream ended.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    pub(crate) reason: EndReason,
    /// The call's status as last heard.
    pub(crate) status: Option<CallStatus>,
    /// Where it ended.
    pub(crate) place: Place,
}

/// Why a stream ended.
#[derive(Debug, Clone)]
pub(crate) enum EndReason {
    /// The call is over and all of it has come.
    CallEnded,
    /// All that there was has come, and no more was asked for.
    CaughtUp,
    /// It broke off for good.
    Failed(Failure),
}

/// Upgrades a connection and does nothing with it: for `doctor`.
pub(crate) async fn probe(endpoint: &Endpoint) -> Result<Socket, Failure> {
    handshake::connect(endpoint).await.map_err(|broken| match broken {
        Break::Lost { reason, .. } => Failure::error(reason),
        Break::Done(EndReason::Failed(failure)) => failure,
        Break::Done(_) | Break::Unheard => Failure::error("it ended at once"),
    })
}

/// The command that goes on at `place`, with the `flags` that name the server.
pub(crate) fn resume_command(identifier: &Identifier, place: Place, flags: &str) -> String {
    let after = match place.cursor {
        Some(cursor) => format!(" --after {}", crate::render::shell_word(cursor.as_str())),
        None if place.seq > 0 => format!(" --after {}", place.seq),
        None => String::new(),
    };
    format!("callscope tail{after}{flags} {}", crate::render::behind(identifier.as_str()))
}

#[cfg(test)]
#[path = "stream/stream_tests.rs"]
mod tests;
