//! A call's stream, unbroken across reconnects.
//!
//! [`follow`] keeps one WebSocket for one call. It holds a [`Position`], what has come so far, and after any break asks
//! only for what comes after it. What it hands out is in order, each event once; where that was not possible it says so
//! with [`Update::Gap`] before it goes on.

mod backoff;
mod connection;
pub mod deliveries;
mod handshake;
mod outlets;
mod place;
mod position;

use std::time::Duration;

use callscope_common::protocol::ServerMessage;
use callscope_common::{CallId, CallStatus, Identifier, Seq};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use crate::exit::{Exit, Failure};
use crate::net;
use crate::secret::Secret;
use crate::settings::Settings;
use position::Position;

pub use backoff::Backoff;
pub use connection::{Break, Socket, closed};
pub use handshake::connect;
pub use outlets::{Inlet, Outlets, queue};
pub use place::{CursorText, Place};
pub use position::Start;

/// How long a server that never answered is tried.
const FIRST_CONNECT: Duration = Duration::from_secs(5);
/// A connection that held this long, or brought something, was a good one: the next break starts its backoff anew.
const SETTLED: Duration = Duration::from_secs(5);

/// Where to connect.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The flags that name it, for commands shown to the user.
    pub flags: String,
    /// The server as the user named it.
    pub server: Url,
    /// The access token.
    pub token: Option<Secret>,
}

impl Endpoint {
    /// The server and token of `settings`.
    pub fn new(settings: &Settings) -> Self {
        if settings.token.is_some() {
            net::warn_if_plain(&settings.server, "the token", settings.console);
        }
        Self {
            flags: settings.flags.clone().unwrap_or_default(),
            server: settings.server.clone(),
            token: settings.token.clone(),
        }
    }
}

/// What to follow, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// Any identifier of the call.
    pub identifier: Identifier,
    /// Where to begin.
    pub start: Start,
    /// Whether to wait for a call that is not known yet.
    pub wait: bool,
    /// Whether to go on behind what is there now.
    pub follow: bool,
    /// Whether to connect again after a break.
    pub reconnect: bool,
}

/// What happened to a followed call.
#[derive(Debug, Clone)]
// Nearly all that there ever are of these are messages.
#[allow(clippy::large_enum_variant)]
pub enum Update {
    /// The server said something. Repeats are left out already.
    Message(Incoming),
    /// The first subscription stands, or waits for its call.
    Ready(Place),
    /// Nothing was heard for so long, though the server gives a sign of life more often than that.
    Quiet {
        /// In seconds.
        secs: u32,
    },
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

/// A message and the text it was read from.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The frame as it came.
    pub raw: String,
    /// What it says; [`ServerMessage::Unknown`] also where a known type had unknown contents.
    pub message: ServerMessage,
    /// The event's place in its log, for messages that are events.
    pub seq: Option<Seq>,
    /// The cursor that came with it.
    pub cursor: Option<CursorText>,
}

impl Incoming {
    /// Reads a frame; `None` for what is no message at all. An event whose contents this version cannot read still moves the place
    /// on: one of a known type by its seq, one of an unknown type where it has a cursor as well, which every event has.
    pub fn read(raw: String) -> Option<Self> {
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// The place does not exist in the call's log as the server has it now: the log is replayed from its start.
    CursorInvalid {
        /// The last event that had come.
        after: Seq,
    },
    /// An event came that is not the next one. It is left out, and the missing ones are asked for.
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
pub struct Ending {
    /// Why.
    pub reason: EndReason,
    /// The call's status as last heard.
    pub status: Option<CallStatus>,
    /// Where it ended.
    pub place: Place,
}

/// Why a stream ended.
#[derive(Debug, Clone)]
pub enum EndReason {
    /// The call is over and all of it has come.
    CallEnded,
    /// All there was has come, and nobody asked for more.
    CaughtUp,
    /// It broke off for good.
    Failed(Failure),
}

/// Follows one call and sends what happens, marked with `call`, until it ends or nobody listens any more.
///
/// `out` is bounded: while it is full the socket is not read, and the server waits.
pub async fn follow(endpoint: Endpoint, request: Request, call: usize, out: Outlets) {
    let mut follower = Follower {
        position: Position::new(&request),
        out: Outlet { call, out },
        backoff: Backoff::default(),
        started: Instant::now(),
        connected: false,
        stood: false,
        attempt: 0,
        ready: false,
        endpoint,
        request,
    };
    let reason = follower.run().await;
    let Some(reason) = reason else { return };
    let ending = Ending { reason, status: follower.position.status(), place: follower.position.place() };
    follower.out.send(Update::Ended(ending)).await;
}

struct Follower {
    endpoint: Endpoint,
    request: Request,
    position: Position,
    out: Outlet,
    backoff: Backoff,
    started: Instant,
    /// There was a connection, ever.
    connected: bool,
    /// The subscription stood on the connection that broke last.
    stood: bool,
    /// How often it was tried since then.
    attempt: u32,
    ready: bool,
}

struct Outlet {
    call: usize,
    out: Outlets,
}

impl Outlet {
    /// Whether anybody still listens.
    async fn send(&self, update: Update) -> bool {
        self.out.send(self.call, update).await
    }

    async fn closed(&self) {
        self.out.sender.closed().await;
    }
}

impl Follower {
    /// Connects again and again, until there is an end. `None`: nobody listens any more.
    async fn run(&mut self) -> Option<EndReason> {
        loop {
            let since = Instant::now();
            let before = self.position.place();
            self.stood = false;
            let broken = self.session().await;
            if (self.stood && since.elapsed() > SETTLED) || self.position.place() != before {
                self.backoff = Backoff::default();
            }
            self.attempt = if self.stood { 1 } else { self.attempt + 1 };
            let (reason, wait) = match broken {
                Break::Done(reason) => return Some(reason),
                Break::Unheard => return None,
                Break::Lost { reason, wait } => (reason, wait),
            };
            if let Some(end) = self.give_up(&reason) {
                return Some(EndReason::Failed(end));
            }
            let mut delay = self.backoff.next(wait);
            if !self.connected {
                delay = delay.min(FIRST_CONNECT.saturating_sub(self.started.elapsed()));
            }
            let attempt = self.attempt;
            if !self.out.send(Update::Reconnecting { attempt, delay, reason, broke: self.connected }).await {
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.out.closed() => return None,
            }
        }
    }

    fn give_up(&self, reason: &str) -> Option<Failure> {
        let (identifier, place) = (&self.request.identifier, self.position.place());
        let resume = format!("take it up again: {}", resume_command(identifier, place, &self.endpoint.flags));
        if !self.connected {
            let over = !self.request.reconnect || self.started.elapsed() >= FIRST_CONNECT;
            return over.then(|| crate::net::unreachable(&self.endpoint.server, reason));
        }
        (!self.request.reconnect)
            .then(|| Failure::new(Exit::StreamLost, format!("the stream broke: {reason}")).hint(resume))
    }
}

/// Upgrades a connection and does nothing with it: for `doctor`.
pub async fn probe(endpoint: &Endpoint) -> Result<connection::Socket, Failure> {
    handshake::connect(endpoint).await.map_err(|broken| match broken {
        Break::Lost { reason, .. } => Failure::error(reason),
        Break::Done(EndReason::Failed(failure)) => failure,
        Break::Done(_) | Break::Unheard => Failure::error("it ended at once"),
    })
}

/// The command that goes on at `place`, with the `flags` that name the server.
pub fn resume_command(identifier: &Identifier, place: Place, flags: &str) -> String {
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
