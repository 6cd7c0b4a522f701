//! The stream of deliveries, which is resumed after a reconnect.

use std::time::Duration;

use callscope_common::protocol::{ClientMessage, DeliveryMessage, ErrorCode, FollowDeliveries, ServerMessage};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::handshake::Break;
use super::reconnect::{self, Lost, Next, Subscription};
use super::{EndReason, Endpoint};
use crate::api::too_long;
use crate::exit::{Exit, Failure};

/// How long a delivery waits for room in the queue before this side closes the connection. The server would close it as
/// a slow consumer a little later.
const QUEUE_FULL_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest message. A message describes a delivery without its body, and many of them may wait in the queue.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begin {
    /// At the next delivery to come.
    Now,
    /// At the oldest delivery that the server keeps.
    Start,
    /// After this cursor.
    After(String),
}

#[derive(Debug)]
pub(crate) enum Update {
    /// The subscription was confirmed, for the first time or after a reconnect.
    Began { cursor: String, resumed: bool },
    /// A delivery was committed.
    Delivery(Box<DeliveryMessage>),
    /// The connection broke or could not be opened. The next attempt follows after `delay`.
    Lost { reason: String, delay: Duration },
    /// Nothing more will come.
    Failed(Failure),
}

/// Follows deliveries until the stream ends or the receiver is gone.
pub(crate) async fn follow(endpoint: Endpoint, begin: Begin, out: mpsc::Sender<Update>) {
    let mut stream = Stream { begin, out, is_confirmed: false, was_confirmed: false, is_hidden: false };
    if let Some(EndReason::Failed(failure)) = reconnect::follow(&endpoint, &mut stream).await {
        let _ = stream.out.send(Update::Failed(failure)).await;
    }
}

struct Stream {
    /// Where the next connection resumes.
    begin: Begin,
    out: mpsc::Sender<Update>,
    /// Whether the subscription was confirmed on this connection.
    is_confirmed: bool,
    /// Whether it was confirmed on any connection.
    was_confirmed: bool,
    /// This side closed the connection because the queue was full, so the break is not reported.
    is_hidden: bool,
}

impl Subscription for Stream {
    type Place = Begin;

    fn place(&self) -> Begin {
        self.begin.clone()
    }

    fn request(&mut self) -> String {
        self.is_confirmed = false;
        ClientMessage::FollowDeliveries(match &self.begin {
            Begin::Now => FollowDeliveries::default(),
            Begin::Start => FollowDeliveries { history: true, after: None },
            Begin::After(cursor) => FollowDeliveries { after: Some(cursor.clone()), history: false },
        })
        .to_json()
    }

    fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    async fn receive(&mut self, text: &str) -> Result<Next, Break> {
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(Break::failed(too_long("a message of the server", MAX_MESSAGE_BYTES)));
        }
        match ServerMessage::parse(text) {
            Ok(ServerMessage::Reconnect(reconnect)) => {
                return Ok(Next::Leave(Duration::from_millis(reconnect.after_ms)));
            }
            Ok(ServerMessage::DeliveriesConfirmed(confirmed)) => self.confirmed(confirmed.cursor).await?,
            Ok(ServerMessage::Delivery(message)) => self.pass(message).await?,
            Ok(ServerMessage::Error(error)) => refused(error.code.known(), &error.message)?,
            // A message of a newer server, or one that this stream does not need.
            _ => {}
        }
        Ok(Next::Read)
    }

    async fn lost(&mut self, Lost { reason, delay, .. }: Lost) -> Result<(), Break> {
        if self.is_hidden { Ok(()) } else { self.tell(Update::Lost { reason, delay }).await }
    }

    async fn receiver_gone(&self) {
        self.out.closed().await;
    }
}

impl Stream {
    async fn confirmed(&mut self, cursor: String) -> Result<(), Break> {
        self.is_confirmed = true;
        self.begin = Begin::After(cursor.clone());
        let resumed = std::mem::replace(&mut self.was_confirmed, true);
        if std::mem::take(&mut self.is_hidden) { Ok(()) } else { self.tell(Update::Began { cursor, resumed }).await }
    }

    async fn tell(&self, update: Update) -> Result<(), Break> {
        self.out.send(update).await.map_err(|_| Break::ReceiverGone)
    }

    /// Sends a delivery to the receiver. If the queue stays full, the connection is closed and resumed later.
    async fn pass(&mut self, message: Box<DeliveryMessage>) -> Result<(), Break> {
        let cursor = message.cursor.clone();
        let reserved = timeout(QUEUE_FULL_TIMEOUT, self.out.reserve()).await;
        let was_full = reserved.is_err();
        let room = match reserved {
            Ok(room) => room,
            Err(_) => {
                // The socket is not read while this waits. The server sends everything after this delivery again.
                self.out.reserve().await
            }
        };
        room.map_err(|_| Break::ReceiverGone)?.send(Update::Delivery(message));
        self.begin = Begin::After(cursor);
        if was_full {
            self.is_hidden = true;
            return Err(Break::Lost { reason: "no room".into(), wait: Some(Duration::ZERO) });
        }
        Ok(())
    }
}

/// Decides whether an error of the server ends the stream.
fn refused(code: Option<ErrorCode>, message: &str) -> Result<(), Break> {
    let failed = |failure| Err(Break::failed(failure));
    match code {
        Some(ErrorCode::Forbidden) => failed(Failure::new(Exit::NotAllowed, format!("not allowed: {message}")).hint(
            "mint an admin's token on the server's machine: callscope-server token --sub NAME --role admin --ttl 8h",
        )),
        Some(ErrorCode::CursorInvalid) => failed(
            Failure::error(format!("the cursor in the file is not of this server: {message}"))
                .hint("is it the right --server? remove the cursor file to begin with the next delivery"),
        ),
        Some(ErrorCode::InvalidMessageFormat) => failed(
            Failure::error("the server is older than this program: it does not know how to follow deliveries")
                .hint("compare: callscope --version"),
        ),
        Some(ErrorCode::SubscriptionFailed) => Err(Break::lost(message)),
        _ => Ok(()),
    }
}
