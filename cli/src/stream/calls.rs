//! The stream of one call, which is resumed after a reconnect.

use std::time::Duration;

use callscope_common::protocol::ServerMessage;

use super::handshake::Break;
use super::position::{Position, Verdict};
use super::reconnect::{self, Lost, Next, Subscription};
use super::{EndReason, Ending, Endpoint, Incoming, Outlets, Place, Request, Update, resume_command};
use crate::exit::{Exit, Failure};

/// Follows one call and sends updates, marked with the index `call`, until the stream ends or the receiver is gone.
///
/// `out` is bounded. While it is full, the socket is not read and the server has to wait.
pub(crate) async fn follow(endpoint: Endpoint, request: Request, call: usize, out: Outlets) {
    let mut follower = Follower {
        position: Position::new(&request),
        flags: endpoint.flags.clone(),
        request,
        out,
        call,
        is_confirmed: false,
        was_confirmed: false,
        is_resuming: false,
    };
    let Some(reason) = reconnect::follow(&endpoint, &mut follower).await else { return };
    let ending = Ending { reason, status: follower.position.status(), place: follower.position.place() };
    follower.out.send(call, Update::Ended(ending)).await;
}

struct Follower {
    position: Position,
    request: Request,
    /// The flags that name the server, for the command that resumes.
    flags: String,
    out: Outlets,
    call: usize,
    /// Whether the subscription was confirmed on this connection.
    is_confirmed: bool,
    /// Whether it was confirmed on any connection.
    was_confirmed: bool,
    /// Whether the next confirmation resumes the stream.
    is_resuming: bool,
}

impl Subscription for Follower {
    type Place = Place;

    fn place(&self) -> Place {
        self.position.place()
    }

    fn request(&mut self) -> String {
        self.is_confirmed = false;
        self.is_resuming = self.was_confirmed;
        self.position.subscribe()
    }

    fn is_confirmed(&self) -> bool {
        self.is_confirmed
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

    async fn receiver_gone(&self) {
        self.out.sender.closed().await;
    }
}

impl Follower {
    /// Passes a message to the receiver if it is new, and returns what to do next.
    async fn take(&mut self, incoming: Incoming) -> Result<Next, Break> {
        let verdict = self.position.take(&incoming);
        // A call that existed before and now does not is waited for, not resumed.
        let is_pending = matches!(incoming.message, ServerMessage::SubscriptionPending(_));
        let is_confirmed = matches!(incoming.message, ServerMessage::SubscriptionConfirmed(_))
            || (is_pending && self.position.place().call_id.is_none());
        let is_pong = matches!(incoming.message, ServerMessage::Pong(_));
        if !is_pong && !matches!(verdict, Verdict::Repeat | Verdict::Hole(_) | Verdict::ResubscribeWithSeq) {
            self.pass(Update::Message(incoming)).await?;
        }
        match verdict {
            Verdict::Pass if is_confirmed => self.confirmed().await?,
            Verdict::Pass | Verdict::Repeat => {}
            Verdict::Merged(gap) => self.pass(Update::Gap(gap)).await?,
            Verdict::Hole(gap) => {
                self.pass(Update::Gap(gap)).await?;
                return Err(Break::lost("an event is missing"));
            }
            Verdict::ResubscribeFromStart(gap) => {
                self.is_resuming = false;
                self.pass(Update::Gap(gap)).await?;
                return Ok(Next::Send(self.position.subscribe()));
            }
            Verdict::ResubscribeWithSeq => return Ok(Next::Send(self.position.subscribe())),
            Verdict::RetryLater(reason) => return Err(Break::lost(reason)),
            Verdict::Refused(failure) => return Err(Break::failed(failure)),
        }
        Ok(Next::Read)
    }

    /// Reports that the subscription was confirmed, for the first time or again.
    async fn confirmed(&mut self) -> Result<(), Break> {
        let place = self.position.place();
        self.is_confirmed = true;
        if !std::mem::replace(&mut self.was_confirmed, true) {
            self.pass(Update::Ready(place)).await
        } else if std::mem::take(&mut self.is_resuming) {
            self.pass(Update::Resumed { place, proven: self.position.is_proven() }).await
        } else {
            Ok(())
        }
    }

    async fn pass(&self, update: Update) -> Result<(), Break> {
        if self.out.send(self.call, update).await { Ok(()) } else { Err(Break::ReceiverGone) }
    }
}
