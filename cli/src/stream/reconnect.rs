//! The engine of every stream: connects, subscribes, watches for silence, and connects again after a break.
//!
//! What is subscribed to is a [`Subscription`], which takes the messages in and knows from where to go on.

use std::convert::Infallible;
use std::time::Duration;

use callscope_common::protocol::CloseReason;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::handshake::{Break, LONGEST_WAIT, Socket, connect};
use super::{EndReason, Endpoint};
use crate::api::TOKEN_HINT;
use crate::exit::{Exit, Failure};
use crate::net::{self, Backoff};

/// A handshake or a write that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a server that never answered is tried.
const FIRST_CONNECT: Duration = Duration::from_secs(5);
/// After a connection that stood for so long, or brought something, the backoff starts again.
const SETTLED: Duration = Duration::from_secs(5);

/// How long nothing may be heard of a server, which pings every 25 s.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Silence {
    /// After so long the server is asked whether it is still there.
    pub(crate) ask_after: Duration,
    /// After so long the connection is given up.
    pub(crate) dead_after: Duration,
}

impl Default for Silence {
    fn default() -> Self {
        Self { ask_after: Duration::from_secs(30), dead_after: Duration::from_secs(60) }
    }
}

/// What a stream follows.
pub(super) trait Subscription {
    /// How far it has come: a connection that moved it was a good one.
    type Place: PartialEq;

    /// How far it has come.
    fn place(&self) -> Self::Place;

    /// The message that subscribes from there; a new connection begins with it.
    fn request(&mut self) -> String;

    /// Whether the subscription was confirmed on this connection.
    fn is_confirmed(&self) -> bool;

    /// Takes a message in.
    async fn receive(&mut self, text: &str) -> Result<Next, Break>;

    /// Nothing was heard for `silence`; `None`: something was heard again.
    async fn silent(&mut self, _silence: Option<Duration>) -> Result<(), Break> {
        Ok(())
    }

    /// There is no connection, and another is made after a delay.
    async fn lost(&mut self, lost: Lost) -> Result<(), Break>;

    /// Whether a connection that broke is replaced by another.
    fn reconnects(&self) -> bool {
        true
    }

    /// The failure of a stream that broke for `reason` and does not reconnect.
    fn broken(&self, reason: &str) -> Failure {
        Failure::new(Exit::StreamLost, format!("the stream broke: {reason}"))
    }

    /// Completes once no one listens any more.
    async fn unheard(&self);
}

/// What a message asks for.
pub(super) enum Next {
    Read,
    /// This is to be sent.
    Send(String),
    /// Another connection is to be made after so long: the server is shutting down.
    Leave(Duration),
}

/// A connection that broke, or could not be made.
pub(super) struct Lost {
    pub(super) reason: String,
    /// How long until the next try.
    pub(super) delay: Duration,
    /// 1 for the first try after a break.
    pub(super) attempt: u32,
    /// Whether there was a connection before.
    pub(super) was_connected: bool,
}

/// Follows `subscription` until there is an end; `None` where no one listens any more.
pub(super) async fn follow(endpoint: &Endpoint, subscription: &mut impl Subscription) -> Option<EndReason> {
    let started = Instant::now();
    let mut engine = Engine { endpoint, subscription, connected: false };
    let (mut backoff, mut attempt) = (Backoff::default(), 0);
    loop {
        let (since, before) = (Instant::now(), engine.subscription.place());
        let (reason, wait) = match engine.session().await {
            Break::Done(reason) => return Some(reason),
            Break::Unheard => return None,
            Break::Lost { reason, wait } => (reason, wait),
        };
        let has_stood = engine.subscription.is_confirmed();
        if (has_stood && since.elapsed() > SETTLED) || engine.subscription.place() != before {
            backoff = Backoff::default();
        }
        attempt = if has_stood { 1 } else { attempt + 1 };
        let reconnects = engine.subscription.reconnects();
        if !engine.connected && (!reconnects || started.elapsed() >= FIRST_CONNECT) {
            return Some(EndReason::Failed(net::unreachable(&endpoint.server, &reason)));
        }
        if !reconnects {
            return Some(EndReason::Failed(engine.subscription.broken(&reason)));
        }
        let mut delay = backoff.next(wait);
        if !engine.connected {
            delay = delay.min(FIRST_CONNECT.saturating_sub(started.elapsed()));
        }
        let lost = Lost { reason, delay, attempt, was_connected: engine.connected };
        engine.subscription.lost(lost).await.ok()?;
        tokio::select! {
            () = sleep(delay) => {}
            () = engine.subscription.unheard() => return None,
        }
    }
}

struct Engine<'e, S> {
    endpoint: &'e Endpoint,
    subscription: &'e mut S,
    /// Whether there was a connection, ever.
    connected: bool,
}

impl<S: Subscription> Engine<'_, S> {
    /// Connects, subscribes and passes on what comes, until it breaks.
    async fn session(&mut self) -> Break {
        let request = self.subscription.request();
        let mut socket = match timeout(DEADLINE, connect(self.endpoint)).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(broken)) => return if self.connected { broken.passing() } else { broken },
            Err(_) => return Break::lost(format!("no answer within {} s", DEADLINE.as_secs())),
        };
        self.connected = true;
        let Err(broken) = self.exchange(&mut socket, request).await;
        if matches!(broken, Break::Done(_) | Break::Unheard | Break::Lost { wait: Some(Duration::ZERO), .. }) {
            let _ = timeout(Duration::from_secs(1), socket.close(None)).await;
        }
        broken
    }

    async fn exchange(&mut self, socket: &mut Socket, request: String) -> Result<Infallible, Break> {
        send(socket, request).await?;
        let mut line = Line { socket, silence: self.endpoint.silence, heard: Instant::now(), asked: false };
        let (mut is_silent, mut leave) = (false, None);
        let left = |leave: Option<Instant>| leave.map(|at| at.saturating_duration_since(Instant::now()));
        loop {
            let frame = tokio::select! {
                frame = line.next() => frame,
                () = until(leave), if self.subscription.reconnects() => {
                    return Err(Break::Lost { reason: "the server is shutting down".into(), wait: Some(Duration::ZERO) });
                }
                () = self.subscription.unheard() => return Err(Break::Unheard),
            };
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    is_silent = true;
                    self.subscription.silent(Some(self.endpoint.silence.ask_after)).await?;
                    continue;
                }
                Err(Break::Lost { reason, .. }) => return Err(Break::Lost { reason, wait: left(leave) }),
                Err(broken) => return Err(broken),
            };
            if std::mem::take(&mut is_silent) {
                self.subscription.silent(None).await?;
            }
            let text = match frame {
                Message::Text(text) => text,
                Message::Close(frame) => return Err(closed(frame.as_ref(), left(leave))),
                _ => continue,
            };
            match self.subscription.receive(text.as_str()).await? {
                Next::Read => {}
                Next::Send(text) => send(line.socket, text).await?,
                Next::Leave(after) => leave = Some(Instant::now() + after.min(LONGEST_WAIT)),
            }
        }
    }
}

/// Resolves at that time; never where there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A socket, watched for silence.
struct Line<'s> {
    socket: &'s mut Socket,
    silence: Silence,
    heard: Instant,
    asked: bool,
}

impl Line<'_> {
    /// The next frame; `None` where a silent server was just asked whether it is there. Gives up on one that stays
    /// silent.
    async fn next(&mut self) -> Result<Option<Message>, Break> {
        let Silence { ask_after, dead_after } = self.silence;
        let patience = if self.asked { dead_after } else { ask_after };
        match timeout_at(self.heard + patience, self.socket.next()).await {
            Ok(Some(Ok(frame))) => {
                self.heard = Instant::now();
                self.asked = false;
                Ok(Some(frame))
            }
            Ok(Some(Err(error))) => Err(Break::lost(net::root_cause(&error))),
            Ok(None) => Err(Break::lost("the connection was closed")),
            Err(_) if self.asked => Err(Break::lost(format!("nothing was heard for {} s", dead_after.as_secs()))),
            Err(_) => {
                self.asked = true;
                send(self.socket, r#"{"ping":0}"#.to_owned()).await?;
                Ok(None)
            }
        }
    }
}

async fn send(socket: &mut Socket, text: String) -> Result<(), Break> {
    match timeout(DEADLINE, socket.send(Message::text(text))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Break::lost(net::root_cause(&error))),
        Err(_) => Err(Break::lost("the server takes nothing in")),
    }
}

/// What a close frame means.
pub(crate) fn closed(frame: Option<&CloseFrame>, wait: Option<Duration>) -> Break {
    let Some(frame) = frame else { return Break::Lost { reason: "the connection was closed".into(), wait } };
    let code = u16::from(frame.code);
    let reason = match frame.reason.as_str() {
        "" => format!("closed with code {code}"),
        said => format!("{said} ({code})"),
    };
    let stop = |exit, why: &str| Failure::new(exit, format!("{why}: {reason}"));
    let failure = match CloseReason::from_code(code) {
        Some(CloseReason::TokenExpired) => stop(Exit::NotAllowed, "the token's time ran out").hint(TOKEN_HINT),
        Some(CloseReason::Forbidden) => stop(Exit::StreamLost, "the right to follow was withdrawn"),
        Some(CloseReason::TokenRevoked) => stop(Exit::StreamLost, "the token was revoked").hint(TOKEN_HINT),
        Some(CloseReason::Kicked) => stop(Exit::StreamLost, "an admin ended the connection"),
        Some(CloseReason::Normal) => stop(Exit::StreamLost, "the server ended the stream before the call did"),
        Some(CloseReason::NotUtf8 | CloseReason::TooBig) => {
            stop(Exit::Error, "the server refused a message of this program")
        }
        _ => return Break::Lost { reason, wait },
    };
    Break::failed(failure)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn close(code: u16) -> Option<Exit> {
        let frame = CloseFrame { code: code.into(), reason: "why".into() };
        match closed(Some(&frame), None) {
            Break::Done(EndReason::Failed(failure)) => Some(failure.exit),
            Break::Lost { reason, .. } => {
                assert_eq!(reason, format!("why ({code})"));
                None
            }
            other => panic!("{code}: {other:?}"),
        }
    }

    #[test]
    fn close_codes_stop_or_retry() {
        assert_eq!(close(4001), Some(Exit::NotAllowed));
        for stop in [4003, 4011, 4012, 1000] {
            assert_eq!(close(stop), Some(Exit::StreamLost), "{stop}");
        }
        for retry in [1001, 1006, 1011, 4101, 4102, 4104, 4201, 4999] {
            assert_eq!(close(retry), None, "{retry}");
        }
    }
}
