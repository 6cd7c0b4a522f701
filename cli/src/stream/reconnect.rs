//! The engine of every stream: connects, subscribes, detects a silent server, and reconnects after a break.
//!
//! A [`Subscription`] handles the messages and knows where to resume.

use std::convert::Infallible;
use std::time::Duration;

use callscope_common::protocol::CloseReason;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::handshake::{Break, MAX_RETRY_AFTER, Socket, connect};
use super::{EndReason, Endpoint};
use crate::api::TOKEN_HINT;
use crate::exit::{Exit, Failure};
use crate::net::{self, Backoff};

/// Timeout of a handshake and of a write.
const IO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to retry while no connection has been established yet.
const FIRST_CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// After a connection that lasted longer, or that brought an event, the backoff starts from its shortest delay.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// When a silent server counts as dead. A live server pings every 25 s.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Silence {
    /// Silence after which the client sends a ping.
    pub(crate) ask_after: Duration,
    /// Silence after which the connection is closed.
    pub(crate) dead_after: Duration,
}

impl Default for Silence {
    fn default() -> Self {
        Self { ask_after: Duration::from_secs(30), dead_after: Duration::from_secs(60) }
    }
}

pub(super) trait Subscription {
    /// How far the stream has come. A connection that changes it resets the backoff.
    type Place: PartialEq;

    fn place(&self) -> Self::Place;

    /// Returns the message that subscribes from the current place. It is the first message of each connection.
    fn request(&mut self) -> String;

    /// Whether the subscription was confirmed on this connection.
    fn is_confirmed(&self) -> bool;

    /// Handles a message.
    async fn receive(&mut self, text: &str) -> Result<Next, Break>;

    /// Reports that the server has been silent for `silence`, or with `None`, that it sends again.
    async fn silent(&mut self, _silence: Option<Duration>) -> Result<(), Break> {
        Ok(())
    }

    /// Reports that the connection was lost and that the next attempt follows after a delay.
    async fn lost(&mut self, lost: Lost) -> Result<(), Break>;

    /// Returns whether to reconnect after a break.
    fn reconnects(&self) -> bool {
        true
    }

    /// Returns the failure of a stream that does not reconnect.
    fn broken(&self, reason: &str) -> Failure {
        Failure::new(Exit::StreamLost, format!("the stream broke: {reason}"))
    }

    /// Completes once the receiver of the updates is gone.
    async fn receiver_gone(&self);
}

/// What to do after a message.
pub(super) enum Next {
    Read,
    /// Send this text.
    Send(String),
    /// Open another connection after this time: the server is shutting down.
    Leave(Duration),
}

/// A connection that broke or could not be opened.
pub(super) struct Lost {
    pub(super) reason: String,
    /// Time until the next attempt.
    pub(super) delay: Duration,
    /// 1 for the first attempt after a break.
    pub(super) attempt: u32,
    /// Whether any connection was ever established.
    pub(super) was_connected: bool,
}

/// Follows `subscription` until the stream ends. Returns `None` if the receiver is gone.
pub(super) async fn follow(endpoint: &Endpoint, subscription: &mut impl Subscription) -> Option<EndReason> {
    let started = Instant::now();
    let mut engine = Engine { endpoint, subscription, was_connected: false };
    let (mut backoff, mut attempt) = (Backoff::default(), 0);
    loop {
        let (attempted_at, place_before) = (Instant::now(), engine.subscription.place());
        let (reason, wait) = match engine.session().await {
            Break::Done(reason) => return Some(reason),
            Break::ReceiverGone => return None,
            Break::Lost { reason, wait } => (reason, wait),
        };
        let was_confirmed = engine.subscription.is_confirmed();
        if (was_confirmed && attempted_at.elapsed() > STABLE_AFTER) || engine.subscription.place() != place_before {
            backoff = Backoff::default();
        }
        attempt = if was_confirmed { 1 } else { attempt + 1 };
        let reconnects = engine.subscription.reconnects();
        if !engine.was_connected && (!reconnects || started.elapsed() >= FIRST_CONNECT_LIMIT) {
            return Some(EndReason::Failed(net::unreachable(&endpoint.server, &reason)));
        }
        if !reconnects {
            return Some(EndReason::Failed(engine.subscription.broken(&reason)));
        }
        let mut delay = backoff.next(wait);
        if !engine.was_connected {
            delay = delay.min(FIRST_CONNECT_LIMIT.saturating_sub(started.elapsed()));
        }
        let lost = Lost { reason, delay, attempt, was_connected: engine.was_connected };
        engine.subscription.lost(lost).await.ok()?;
        tokio::select! {
            () = sleep(delay) => {}
            () = engine.subscription.receiver_gone() => return None,
        }
    }
}

struct Engine<'e, S> {
    endpoint: &'e Endpoint,
    subscription: &'e mut S,
    /// Whether any connection was ever established.
    was_connected: bool,
}

impl<S: Subscription> Engine<'_, S> {
    /// Connects, subscribes and handles messages until the connection ends.
    async fn session(&mut self) -> Break {
        let request = self.subscription.request();
        let mut socket = match timeout(IO_TIMEOUT, connect(self.endpoint)).await {
            Ok(Ok(socket)) => socket,
            // A server that has accepted this client before may be restarting, so most refusals are retried.
            Ok(Err(broken)) => return if self.was_connected { broken.retryable() } else { broken },
            Err(_) => return Break::lost(format!("no answer within {} s", IO_TIMEOUT.as_secs())),
        };
        self.was_connected = true;
        let Err(broken) = self.exchange(&mut socket, request).await;
        // The client ends these connections itself, so it closes them properly. A wait of zero means that it leaves a
        // server that is shutting down.
        if matches!(broken, Break::Done(_) | Break::ReceiverGone | Break::Lost { wait: Some(Duration::ZERO), .. }) {
            let _ = timeout(Duration::from_secs(1), socket.close(None)).await;
        }
        broken
    }

    async fn exchange(&mut self, socket: &mut Socket, request: String) -> Result<Infallible, Break> {
        send(socket, request).await?;
        let mut watched =
            WatchedSocket { socket, silence: self.endpoint.silence, heard_at: Instant::now(), is_ping_sent: false };
        let (mut is_silent, mut leave_at) = (false, None);
        let time_left = |leave_at: Option<Instant>| leave_at.map(|at| at.saturating_duration_since(Instant::now()));
        loop {
            let frame = tokio::select! {
                frame = watched.next_or_ping() => frame,
                () = sleep_until_some(leave_at), if self.subscription.reconnects() => {
                    return Err(Break::Lost { reason: "the server is shutting down".into(), wait: Some(Duration::ZERO) });
                }
                () = self.subscription.receiver_gone() => return Err(Break::ReceiverGone),
            };
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    is_silent = true;
                    self.subscription.silent(Some(self.endpoint.silence.ask_after)).await?;
                    continue;
                }
                Err(Break::Lost { reason, .. }) => return Err(Break::Lost { reason, wait: time_left(leave_at) }),
                Err(broken) => return Err(broken),
            };
            if std::mem::take(&mut is_silent) {
                self.subscription.silent(None).await?;
            }
            let text = match frame {
                Message::Text(text) => text,
                Message::Close(frame) => return Err(closed(frame.as_ref(), time_left(leave_at))),
                _ => continue,
            };
            match self.subscription.receive(text.as_str()).await? {
                Next::Read => {}
                Next::Send(text) => send(watched.socket, text).await?,
                Next::Leave(after) => leave_at = Some(Instant::now() + after.min(MAX_RETRY_AFTER)),
            }
        }
    }
}

/// Sleeps until `at`; forever if it is `None`.
async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A socket that is watched for silence.
struct WatchedSocket<'s> {
    socket: &'s mut Socket,
    silence: Silence,
    /// When the last frame arrived.
    heard_at: Instant,
    /// Whether a ping was sent since then.
    is_ping_sent: bool,
}

impl WatchedSocket<'_> {
    /// Returns the next frame, or `None` after it sent a ping to a silent server. A server that stays silent is an
    /// error.
    async fn next_or_ping(&mut self) -> Result<Option<Message>, Break> {
        let Silence { ask_after, dead_after } = self.silence;
        let max_silence = if self.is_ping_sent { dead_after } else { ask_after };
        match timeout_at(self.heard_at + max_silence, self.socket.next()).await {
            Ok(Some(Ok(frame))) => {
                self.heard_at = Instant::now();
                self.is_ping_sent = false;
                Ok(Some(frame))
            }
            Ok(Some(Err(error))) => Err(Break::lost(net::root_cause(&error))),
            Ok(None) => Err(Break::lost("the connection was closed")),
            Err(_) if self.is_ping_sent => {
                Err(Break::lost(format!("nothing was heard for {} s", dead_after.as_secs())))
            }
            Err(_) => {
                self.is_ping_sent = true;
                send(self.socket, r#"{"ping":0}"#.to_owned()).await?;
                Ok(None)
            }
        }
    }
}

async fn send(socket: &mut Socket, text: String) -> Result<(), Break> {
    match timeout(IO_TIMEOUT, socket.send(Message::text(text))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Break::lost(net::root_cause(&error))),
        Err(_) => Err(Break::lost("the server does not read")),
    }
}

/// Decides by the close code whether the stream has ended or reconnects.
pub(crate) fn closed(frame: Option<&CloseFrame>, wait: Option<Duration>) -> Break {
    let Some(frame) = frame else { return Break::Lost { reason: "the connection was closed".into(), wait } };
    let code = u16::from(frame.code);
    let reason = match frame.reason.as_str() {
        "" => format!("closed with code {code}"),
        text => format!("{text} ({code})"),
    };
    let stop = |exit, why: &str| Failure::new(exit, format!("{why}: {reason}"));
    let failure = match CloseReason::from_code(code) {
        Some(CloseReason::TokenExpired) => stop(Exit::NotAllowed, "the token's time ran out").hint(TOKEN_HINT),
        Some(CloseReason::Forbidden) => stop(Exit::StreamLost, "the right to follow was withdrawn"),
        Some(CloseReason::TokenRevoked) => stop(Exit::StreamLost, "the token was revoked").hint(TOKEN_HINT),
        Some(CloseReason::Kicked) => stop(Exit::StreamLost, "an admin ended the connection"),
        Some(CloseReason::Normal) => stop(Exit::StreamLost, "the server closed the stream before its end"),
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
