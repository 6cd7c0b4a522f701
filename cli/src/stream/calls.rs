//! The stream of one call, unbroken across reconnects.

use std::time::Duration;

use callscope_common::protocol::ServerMessage;

use super::handshake::Break;
use super::position::{Position, Verdict};
use super::reconnect::{self, Lost, Next, Subscription};
use super::{EndReason, Ending, Endpoint, Incoming, Outlets, Place, Request, Update, resume_command};
use crate::exit::{Exit, Failure};

/// Follows one call and sends what happens, marked with `call`, until it ends or no one listens any more.
///
/// `out` is bounded: while it is full the socket is not read, and the server waits.
pub(crate) async fn follow(endpoint: Endpoint, request: Request, call: usize, out: Outlets) {
    let mut follower = Follower {
        position: Position::new(&request),
        flags: endpoint.flags.clone(),
        request,
        out,
        call,
        stood: false,
        ready: false,
        resuming: false,
    };
    let Some(reason) = reconnect::follow(&endpoint, &mut follower).await else { return };
    let ending = Ending { reason, status: follower.position.status(), place: follower.position.place() };
    follower.out.send(call, Update::Ended(ending)).await;
}

struct Follower {
    position: Position,
    request: Request,
    /// The flags that name the server, for the command that goes on.
    flags: String,
    out: Outlets,
    call: usize,
    /// The subscription was confirmed on this connection.
    stood: bool,
    /// It was confirmed on any connection.
    ready: bool,
    /// The next confirmation continues what came before.
    resuming: bool,
}

impl Subscription for Follower {
    type Place = Place;

    fn place(&self) -> Place {
        self.position.place()
    }

    fn request(&mut self) -> String {
        self.stood = false;
        self.resuming = self.ready;
        self.position.subscribe()
    }

    fn is_confirmed(&self) -> bool {
        self.stood
    }

    async fn receive(&mut self, text: &str) -> Result<Next, Break> {
        let Some(incoming) = Incoming::read(text.to_owned()) else { return Ok(Next::Read) };
        let leave = match &incoming.message {
            ServerMessage::Reconnect(reconnect) => Some(Duration::from_millis(reconnect.after_ms)),
            _ => None,
        };
        let next = self.take(incoming).await?;
        if self.position.is_done() {
            let is_over = self.position.is_over();
            return Err(Break::Done(if is_over { EndReason::CallEnded } else { EndReason::CaughtUp }));
        }
        Ok(leave.map_or(next, Next::Leave))
    }

    async fn silent(&mut self, silence: Option<Duration>) -> Result<(), Break> {
        let secs = silence.map(|silence| u32::try_from(silence.as_secs()).unwrap_or(u32::MAX));
        self.pass(secs.map_or(Update::Heard, |secs| Update::Quiet { secs })).await
    }

    async fn lost(&mut self, lost: Lost) -> Result<(), Break> {
        let Lost { reason, delay, attempt, was_connected } = lost;
        self.pass(Update::Reconnecting { attempt, delay, reason, broke: was_connected }).await
    }

    fn reconnects(&self) -> bool {
        self.request.reconnect
    }

    fn broken(&self, reason: &str) -> Failure {
        let resume = resume_command(&self.request.identifier, self.position.place(), &self.flags);
        Failure::new(Exit::StreamLost, format!("the stream broke: {reason}"))
            .hint(format!("take it up again: {resume}"))
    }

    async fn unheard(&self) {
        self.out.sender.closed().await;
    }
}

impl Follower {
    /// Passes a message on, and says what it asks for.
    async fn take(&mut self, incoming: Incoming) -> Result<Next, Break> {
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
            Verdict::Pass if stands => self.stands().await?,
            Verdict::Pass | Verdict::Repeat => {}
            Verdict::Merged(gap) => self.pass(Update::Gap(gap)).await?,
            Verdict::Hole(gap) => {
                self.pass(Update::Gap(gap)).await?;
                return Err(Break::lost("what came does not follow what came before"));
            }
            Verdict::Restart(gap) => {
                self.resuming = false;
                self.pass(Update::Gap(gap)).await?;
                return Ok(Next::Send(self.position.subscribe()));
            }
            Verdict::Again => return Ok(Next::Send(self.position.subscribe())),
            Verdict::Later(reason) => return Err(Break::lost(reason)),
            Verdict::Refused(failure) => return Err(Break::failed(failure)),
        }
        Ok(Next::Read)
    }

    /// The subscription stands: for the first time, or again.
    async fn stands(&mut self) -> Result<(), Break> {
        let place = self.position.place();
        self.stood = true;
        if !std::mem::replace(&mut self.ready, true) {
            self.pass(Update::Ready(place)).await
        } else if std::mem::take(&mut self.resuming) {
            self.pass(Update::Resumed { place, proven: self.position.is_proven() }).await
        } else {
            Ok(())
        }
    }

    async fn pass(&self, update: Update) -> Result<(), Break> {
        if self.out.send(self.call, update).await { Ok(()) } else { Err(Break::Unheard) }
    }
}
