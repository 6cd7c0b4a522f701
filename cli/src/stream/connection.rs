//! One connection of a stream: from the handshake to the break.

use std::time::Duration;

use callscope_common::protocol::ServerMessage;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::handshake::connect;
use super::position::Verdict;
use super::{EndReason, Follower, Incoming, Update};
use crate::api::TOKEN_HINT;
use crate::exit::{Exit, Failure};
use crate::net::Wire;

/// A handshake or a write that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(10);
/// A connection on which nothing came for so long, though the server pings every 25 s, is asked whether it is still there,
const ASK_AFTER: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });
/// and given up after so long.
const DEAD_AFTER: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 60 });
/// Why a connection is over.
#[derive(Debug)]
pub enum Break {
    /// The stream ends here.
    Done(EndReason),
    /// Nobody listens any more.
    Unheard,
    /// It broke; another may be made.
    Lost {
        /// In words.
        reason: String,
        /// How long the server asked to wait.
        wait: Option<Duration>,
    },
}

impl Break {
    /// Broken, for this `reason`.
    pub fn lost(reason: impl Into<String>) -> Self {
        Self::Lost { reason: reason.into(), wait: None }
    }

    /// The same for a server that has answered before: not to reach it now may pass, and so may what a proxy answers while the
    /// server behind it is replaced. That the token is refused does not.
    pub fn passing(self) -> Self {
        match self {
            Self::Done(EndReason::Failed(failure)) if matches!(failure.exit, Exit::Unreachable | Exit::Error) => {
                Self::lost(failure.message)
            }
            other => other,
        }
    }

    /// Over for good.
    pub fn failed(failure: Failure) -> Self {
        Self::Done(EndReason::Failed(failure))
    }
}

/// A connection.
pub type Socket = WebSocketStream<Wire>;

impl Follower {
    /// Connects, subscribes and passes on what comes, until it breaks.
    pub(super) async fn session(&mut self) -> Break {
        let mut socket = match timeout(DEADLINE, connect(&self.endpoint)).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(broken)) => return if self.connected { broken.passing() } else { broken },
            Err(_) => return Break::lost(format!("no answer within {} s", DEADLINE.as_secs())),
        };
        self.connected = true;
        let broken = self.converse(&mut socket).await;
        if matches!(broken, Break::Done(_) | Break::Unheard | Break::Lost { wait: Some(Duration::ZERO), .. }) {
            let _ = timeout(Duration::from_secs(1), socket.close(None)).await;
        }
        broken
    }

    async fn converse(&mut self, socket: &mut Socket) -> Break {
        if let Err(broken) = send(socket, self.position.subscribe()).await {
            return broken;
        }
        let mut line = Line { socket, heard: Instant::now(), asked: false };
        let mut quiet = false;
        // When the server asked to leave for another one.
        let mut leave = None;
        let left = |leave: Option<Instant>| leave.map(|at| at.saturating_duration_since(Instant::now()));
        let mut resuming = self.ready;
        loop {
            let frame = tokio::select! {
                heard = line.next() => match heard {
                    Ok(None) => {
                        quiet = true;
                        let secs = u32::try_from(ASK_AFTER.as_secs()).unwrap_or(u32::MAX);
                        match self.pass(Update::Quiet { secs }).await {
                            Ok(()) => continue,
                            Err(broken) => return broken,
                        }
                    }
                    Ok(Some(frame)) => Ok(frame),
                    Err(broken) => Err(broken),
                },
                () = until(leave), if self.request.reconnect => {
                    return Break::Lost { reason: "the server is shutting down".into(), wait: Some(Duration::ZERO) };
                }
                () = self.out.closed() => return Break::Unheard,
            };
            if frame.is_ok()
                && std::mem::take(&mut quiet)
                && let Err(broken) = self.pass(Update::Heard).await
            {
                return broken;
            }
            let text = match frame {
                Ok(Message::Text(text)) => text,
                Ok(Message::Close(frame)) => return closed(frame.as_ref(), left(leave)),
                Ok(_) => continue,
                Err(Break::Lost { reason, .. }) => return Break::Lost { reason, wait: left(leave) },
                Err(broken) => return broken,
            };
            let Some(incoming) = Incoming::read(text.as_str().to_owned()) else { continue };
            if let ServerMessage::Reconnect(reconnect) = &incoming.message {
                leave = Some(Instant::now() + Duration::from_millis(reconnect.after_ms.min(600_000)));
            }
            if let Err(broken) = self.hear(line.socket, incoming, &mut resuming).await {
                return broken;
            }
            if self.position.is_done() {
                let over = self.position.is_over();
                return Break::Done(if over { EndReason::CallEnded } else { EndReason::CaughtUp });
            }
        }
    }

    /// Does what a message asks for, and passes it on.
    async fn hear(&mut self, socket: &mut Socket, incoming: Incoming, resuming: &mut bool) -> Result<(), Break> {
        let verdict = self.position.take(&incoming);
        // A call that was followed and is not there any more is awaited, and not resumed.
        let awaits = matches!(incoming.message, ServerMessage::SubscriptionPending(_));
        let stands = matches!(incoming.message, ServerMessage::SubscriptionConfirmed(_))
            || (awaits && self.position.place().call_id.is_none());
        let pong = matches!(incoming.message, ServerMessage::Pong(_));
        if !pong && !matches!(verdict, Verdict::Repeat | Verdict::Hole(_) | Verdict::Again) {
            self.pass(Update::Message(incoming)).await?;
        }
        match verdict {
            Verdict::Pass if stands => self.stands(resuming).await,
            Verdict::Pass | Verdict::Repeat => Ok(()),
            Verdict::Merged(gap) => self.pass(Update::Gap(gap)).await,
            Verdict::Hole(gap) => {
                self.pass(Update::Gap(gap)).await?;
                Err(Break::lost("what came does not follow what came before"))
            }
            Verdict::Restart(gap) => {
                *resuming = false;
                self.pass(Update::Gap(gap)).await?;
                send(socket, self.position.subscribe()).await
            }
            Verdict::Again => send(socket, self.position.subscribe()).await,
            Verdict::Later(reason) => Err(Break::lost(reason)),
            Verdict::Refused(failure) => Err(Break::failed(failure)),
        }
    }

    /// The subscription stands: for the first time, or again.
    async fn stands(&mut self, resuming: &mut bool) -> Result<(), Break> {
        let place = self.position.place();
        self.stood = true;
        if !std::mem::replace(&mut self.ready, true) {
            self.pass(Update::Ready(place)).await
        } else if std::mem::take(resuming) {
            self.pass(Update::Resumed { place, proven: self.position.is_proven() }).await
        } else {
            Ok(())
        }
    }

    async fn pass(&self, update: Update) -> Result<(), Break> {
        if self.out.send(update).await { Ok(()) } else { Err(Break::Unheard) }
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
    heard: Instant,
    asked: bool,
}

impl Line<'_> {
    /// The next frame; `None` where a silent server was just asked whether it is there. Gives up on one that stays silent.
    async fn next(&mut self) -> Result<Option<Message>, Break> {
        let patience = if self.asked { DEAD_AFTER } else { ASK_AFTER };
        match timeout_at(self.heard + patience, self.socket.next()).await {
            Ok(Some(Ok(frame))) => {
                self.heard = Instant::now();
                self.asked = false;
                Ok(Some(frame))
            }
            Ok(Some(Err(error))) => Err(Break::lost(crate::net::cause(&error))),
            Ok(None) => Err(Break::lost("the connection was closed")),
            Err(_) if self.asked => Err(Break::lost(format!("nothing was heard for {} s", DEAD_AFTER.as_secs()))),
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
        Ok(Err(error)) => Err(Break::lost(crate::net::cause(&error))),
        Err(_) => Err(Break::lost("the server takes nothing in")),
    }
}

/// What a close frame means.
pub fn closed(frame: Option<&CloseFrame>, wait: Option<Duration>) -> Break {
    let Some(frame) = frame else { return Break::Lost { reason: "the connection was closed".into(), wait } };
    let code = u16::from(frame.code);
    let reason = match frame.reason.as_str() {
        "" => format!("closed with code {code}"),
        said => format!("{said} ({code})"),
    };
    let stop = |exit, why: &str| Failure::new(exit, format!("{why}: {reason}"));
    match code {
        4001 => Break::failed(stop(Exit::NotAllowed, "the token's time ran out").hint(TOKEN_HINT)),
        4003 => Break::failed(stop(Exit::StreamLost, "the right to follow was withdrawn")),
        4011 => Break::failed(stop(Exit::StreamLost, "the token was revoked").hint(TOKEN_HINT)),
        4012 => Break::failed(stop(Exit::StreamLost, "an admin ended the connection")),
        1000 => Break::failed(stop(Exit::StreamLost, "the server ended the stream before the call did")),
        1007 | 1009 => Break::failed(stop(Exit::Error, "the server refused a message of this program")),
        _ => Break::Lost { reason, wait },
    }
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

    #[test]
    fn an_unreadable_event_still_counts() {
        let read = |text: &str| Incoming::read(text.to_owned());
        let incoming = read(r#"{"type":"transcription","speaker_type":"whale","seq":7}"#);
        let Some(Incoming { message: ServerMessage::Unknown(kind), seq: Some(7), .. }) = incoming else {
            panic!("{incoming:?}")
        };
        assert_eq!(kind, "transcription");
        let new = read(r#"{"type":"transcription_retold","seq":8,"cursor":"8.x"}"#).unwrap();
        assert_eq!((new.seq, new.cursor.unwrap().as_str()), (Some(8), "8.x"));
        assert_eq!(read(r#"{"type":"weather","seq":8}"#).unwrap().seq, None, "nothing says that this is an event");
        assert!(read("no json").is_none());
    }
}
