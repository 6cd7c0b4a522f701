//! The stream of deliveries, unbroken across reconnects.

use std::time::Duration;

use callscope_common::protocol::{ClientMessage, DeliveryMessage, ErrorCode, FollowDeliveries, ServerMessage};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::handshake::Break;
use super::reconnect::{self, Lost, Next, Subscription};
use super::{EndReason, Endpoint};
use crate::api::too_long;
use crate::exit::{Exit, Failure};

/// A connection whose messages find no room for so long is closed, before the server has to.
const FULL: Duration = Duration::from_secs(2);

/// Longest message taken, in bytes: it tells of a delivery and does not hold it, and many may wait to be fetched.
const LONGEST: usize = 1 << 20;

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begin {
    /// With the next delivery to come.
    Now,
    /// With the oldest that is kept.
    Start,
    /// Behind that cursor.
    After(String),
}

#[derive(Debug)]
pub(crate) enum Update {
    /// The stream stands, for the first time or again.
    Began { cursor: String, resumed: bool },
    /// A delivery was committed.
    Delivery(Box<DeliveryMessage>),
    /// The connection broke, or could not be made.
    Lost { reason: String, delay: Duration },
    /// Nothing more will come.
    Failed(Failure),
}

/// Follows deliveries until there is an end or no one listens any more.
pub(crate) async fn follow(endpoint: Endpoint, begin: Begin, out: mpsc::Sender<Update>) {
    let mut stream = Stream { begin, out, stood: false, began: false, is_hidden: false };
    if let Some(EndReason::Failed(failure)) = reconnect::follow(&endpoint, &mut stream).await {
        let _ = stream.out.send(Update::Failed(failure)).await;
    }
}

struct Stream {
    /// Where the next connection begins.
    begin: Begin,
    out: mpsc::Sender<Update>,
    /// The stream was confirmed on this connection.
    stood: bool,
    /// It was confirmed on any connection.
    began: bool,
    /// The connection was closed from this side, for want of room: no one needs to hear of the break.
    is_hidden: bool,
}

impl Subscription for Stream {
    type Place = Begin;

    fn place(&self) -> Begin {
        self.begin.clone()
    }

    fn request(&mut self) -> String {
        self.stood = false;
        ClientMessage::FollowDeliveries(match &self.begin {
            Begin::Now => FollowDeliveries::default(),
            Begin::Start => FollowDeliveries { history: true, after: None },
            Begin::After(cursor) => FollowDeliveries { after: Some(cursor.clone()), history: false },
        })
        .to_json()
    }

    fn is_confirmed(&self) -> bool {
        self.stood
    }

    async fn receive(&mut self, text: &str) -> Result<Next, Break> {
        if text.len() > LONGEST {
            return Err(Break::failed(too_long("a message of the server", LONGEST)));
        }
        match ServerMessage::parse(text) {
            Ok(ServerMessage::Reconnect(reconnect)) => {
                return Ok(Next::Leave(Duration::from_millis(reconnect.after_ms)));
            }
            Ok(ServerMessage::DeliveriesConfirmed(confirmed)) => self.confirmed(confirmed.cursor).await?,
            Ok(ServerMessage::Delivery(message)) => self.pass(message).await?,
            Ok(ServerMessage::Error(error)) => refused(error.code.known(), &error.message)?,
            // Something newer than this program, or nothing it asked for.
            _ => {}
        }
        Ok(Next::Read)
    }

    async fn lost(&mut self, Lost { reason, delay, .. }: Lost) -> Result<(), Break> {
        if self.is_hidden { Ok(()) } else { self.tell(Update::Lost { reason, delay }).await }
    }

    async fn unheard(&self) {
        self.out.closed().await;
    }
}

impl Stream {
    async fn confirmed(&mut self, cursor: String) -> Result<(), Break> {
        self.stood = true;
        self.begin = Begin::After(cursor.clone());
        let resumed = std::mem::replace(&mut self.began, true);
        if std::mem::take(&mut self.is_hidden) { Ok(()) } else { self.tell(Update::Began { cursor, resumed }).await }
    }

    async fn tell(&self, update: Update) -> Result<(), Break> {
        self.out.send(update).await.map_err(|_| Break::Unheard)
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
            self.is_hidden = true;
            return Err(Break::Lost { reason: "no room".into(), wait: Some(Duration::ZERO) });
        }
        Ok(())
    }
}

/// What an error of the server means for the stream.
fn refused(code: Option<ErrorCode>, message: &str) -> Result<(), Break> {
    let failed = |failure| Err(Break::failed(failure));
    match code {
        Some(ErrorCode::Forbidden) => failed(Failure::new(Exit::NotAllowed, format!("not allowed: {message}")).hint(
            "mint an admin's token on the server's machine: callscope-server token --sub NAME --role admin --ttl 8h",
        )),
        Some(ErrorCode::CursorInvalid) => failed(
            Failure::error(format!("the place in the cursor file is not one of this server: {message}"))
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
