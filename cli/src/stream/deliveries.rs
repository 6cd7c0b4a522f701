//! The stream of deliveries, unbroken across reconnects.

use std::time::Duration;

use callscope_common::protocol::{DeliveryMessage, ErrorCode, ServerMessage};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::api::too_long;
use crate::exit::{Exit, Failure};
use crate::stream::{Backoff, Break, EndReason, Endpoint, Socket, closed, connect};

/// A handshake or a write that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(10);
/// The server gives a sign of life every 25 s.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a server that never answered is tried.
const FIRST_CONNECT: Duration = Duration::from_secs(5);
/// A connection whose messages find no room for so long is closed, before the server has to.
const FULL: Duration = Duration::from_secs(2);

/// Longest message taken, in bytes: it tells of a delivery and does not hold it, and many may wait to be fetched.
const LONGEST: usize = 1 << 20;

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// With the next delivery to come.
    Now,
    /// With the oldest that is kept.
    Start,
    /// Behind that cursor.
    After(String),
}

/// What happened.
#[derive(Debug)]
pub enum Update {
    /// The stream stands, for the first time or again.
    Began { cursor: String, resumed: bool },
    /// A delivery was committed.
    Delivery(Box<DeliveryMessage>),
    /// The connection broke, or could not be made.
    Lost { reason: String, delay: Duration },
    /// Nothing more will come.
    Failed(Failure),
}

/// Follows deliveries until there is an end or nobody listens any more.
pub async fn follow(endpoint: Endpoint, begin: Begin, out: mpsc::Sender<Update>) {
    let mut stream = Stream { endpoint, begin, out, began: false, connected: false, quiet: false };
    if let Some(failure) = stream.run().await {
        let _ = stream.out.send(Update::Failed(failure)).await;
    }
}

struct Stream {
    endpoint: Endpoint,
    /// Where the next connection begins.
    begin: Begin,
    out: mpsc::Sender<Update>,
    /// The stream stood, ever.
    began: bool,
    /// There was a connection, ever.
    connected: bool,
    /// The connection was closed from this side, for want of room: nobody needs to hear of it.
    quiet: bool,
}

impl Stream {
    async fn run(&mut self) -> Option<Failure> {
        let started = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            let before = self.begin.clone();
            let (reason, wait) = match self.session().await {
                Break::Done(EndReason::Failed(failure)) => return Some(failure),
                Break::Done(_) | Break::Unheard => return None,
                Break::Lost { reason, wait } => (reason, wait),
            };
            if self.begin != before {
                backoff = Backoff::default();
            }
            if !self.connected && started.elapsed() >= FIRST_CONNECT {
                return Some(crate::net::unreachable(&self.endpoint.server, &reason));
            }
            let mut delay = backoff.next(wait);
            if !self.connected {
                delay = delay.min(FIRST_CONNECT.saturating_sub(started.elapsed()));
            }
            if !self.quiet && self.out.send(Update::Lost { reason, delay }).await.is_err() {
                return None;
            }
            tokio::select! {
                () = sleep(delay) => {}
                () = self.out.closed() => return None,
            }
        }
    }

    /// Connects, subscribes and passes on what comes, until it breaks.
    async fn session(&mut self) -> Break {
        let mut socket = match timeout(DEADLINE, connect(&self.endpoint)).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(broken)) => return if self.connected { broken.passing() } else { broken },
            Err(_) => return Break::lost(format!("no answer within {} s", DEADLINE.as_secs())),
        };
        self.connected = true;
        let request = match &self.begin {
            Begin::Now => json!({}),
            Begin::Start => json!({"history": true}),
            Begin::After(cursor) => json!({ "after": cursor }),
        };
        let request = json!({ "subscribe_deliveries": request }).to_string();
        match timeout(DEADLINE, socket.send(Message::text(request))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Break::lost(crate::net::cause(&error)),
            Err(_) => return Break::lost("the server takes nothing in"),
        }
        let broken = self.converse(&mut socket).await;
        if !matches!(broken, Break::Lost { wait: None, .. }) {
            let _ = timeout(Duration::from_secs(1), socket.close(None)).await;
        }
        broken
    }

    async fn converse(&mut self, socket: &mut Socket) -> Break {
        let mut leave: Option<Instant> = None;
        loop {
            let left = leave.map(|at| at.saturating_duration_since(Instant::now()));
            let frame = tokio::select! {
                frame = timeout(SILENCE, socket.next()) => frame,
                () = async { match leave { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {
                    return Break::Lost { reason: "the server is shutting down".into(), wait: Some(Duration::ZERO) };
                }
                () = self.out.closed() => return Break::Unheard,
            };
            let text = match frame {
                Ok(Some(Ok(Message::Text(text)))) => text,
                Ok(Some(Ok(Message::Close(frame)))) => return closed(frame.as_ref(), left),
                Ok(Some(Ok(_))) => continue,
                Ok(Some(Err(error))) => return Break::Lost { reason: crate::net::cause(&error), wait: left },
                Ok(None) => return Break::Lost { reason: "the connection was closed".into(), wait: left },
                Err(_) => return Break::lost(format!("nothing was heard for {} s", SILENCE.as_secs())),
            };
            if text.len() > LONGEST {
                return Break::failed(too_long("a message of the server", LONGEST));
            }
            match ServerMessage::parse(text.as_str()) {
                Ok(ServerMessage::Reconnect(reconnect)) => {
                    leave = Some(Instant::now() + Duration::from_millis(reconnect.after_ms.min(600_000)));
                }
                Ok(ServerMessage::DeliveriesConfirmed(confirmed)) => {
                    self.begin = Begin::After(confirmed.cursor.clone());
                    let resumed = std::mem::replace(&mut self.began, true);
                    let quiet = std::mem::take(&mut self.quiet);
                    let update = Update::Began { cursor: confirmed.cursor, resumed };
                    if !quiet && self.out.send(update).await.is_err() {
                        return Break::Unheard;
                    }
                }
                Ok(ServerMessage::Delivery(message)) => {
                    if let Err(broken) = self.pass(message).await {
                        return broken;
                    }
                }
                Ok(ServerMessage::Error(error)) => {
                    if let Some(broken) = self.refused(error.code, &error.message) {
                        return broken;
                    }
                }
                // Something newer than this program, or nothing it asked for.
                _ => {}
            }
        }
    }

    /// Passes a delivery on. Where there is no room for it, the connection is let go meanwhile.
    async fn pass(&mut self, message: Box<DeliveryMessage>) -> Result<(), Break> {
        let cursor = message.cursor.clone();
        let at_once = timeout(FULL, self.out.reserve()).await;
        let was_full = at_once.is_err();
        let room = match at_once {
            Ok(room) => room,
            Err(_) => {
                // The socket is not read meanwhile; what the server has sent is asked for again.
                self.out.reserve().await
            }
        };
        room.map_err(|_| Break::Unheard)?.send(Update::Delivery(message));
        self.begin = Begin::After(cursor);
        if was_full {
            self.quiet = true;
            return Err(Break::Lost { reason: "no room".into(), wait: Some(Duration::ZERO) });
        }
        Ok(())
    }

    fn refused(&self, code: ErrorCode, message: &str) -> Option<Break> {
        let failed = |failure| Some(Break::failed(failure));
        match code {
            ErrorCode::Forbidden => failed(
                Failure::new(Exit::NotAllowed, format!("not allowed: {message}"))
                    .hint("mint an admin's token on the server's machine: callscope-server token --sub NAME --role admin --ttl 8h"),
            ),
            ErrorCode::CursorInvalid => failed(
                Failure::error(format!("the place in the cursor file is not one of this server: {message}"))
                    .hint("is it the right --server? remove the cursor file to begin with the next delivery"),
            ),
            ErrorCode::InvalidMessageFormat => failed(
                Failure::error("the server is older than this program: it does not know how to follow deliveries")
                    .hint("compare: callscope --version"),
            ),
            ErrorCode::SubscriptionFailed => Some(Break::lost(message)),
            _ => None,
        }
    }
}
