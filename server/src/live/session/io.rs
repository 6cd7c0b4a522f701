//! The session's socket: waiting for what comes next, sending, closing.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use callscope_common::protocol::{CloseReason, ErrorCode, ErrorMessage, ServerMessage};
use rocket::tokio::io::{AsyncRead, AsyncWrite};
use rocket::tokio::time::timeout;
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Bytes, Message};

use super::{CLOSE_GRACE, MAX_WAITING, Session};
use crate::live::frame::{read_into, text_frame};
use crate::live::wire::Wire;

/// What a session waits for.
pub(super) enum Next {
    /// A feed or an admin left work, or the socket took what was waiting.
    Work,
    Timer,
    Message(Message),
    /// The peer is gone.
    Gone,
    /// The peer did something that ends the connection.
    Close(CloseReason),
}

/// The wire as the WebSocket library wants it: reads come from the socket, writes go to the output buffer.
struct Adapter<'w, 'c> {
    wire: &'w mut Wire,
    cx: &'w mut Context<'c>,
}

impl Read for Adapter<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(io) = &mut self.wire.io else { return Err(io::ErrorKind::NotConnected.into()) };
        match read_into(buffer, |buffer| Pin::new(io).poll_read(self.cx, buffer)) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Adapter<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wire.out.push_back(bytes::Bytes::copy_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Session {
    pub(super) async fn next(&mut self) -> Next {
        poll_fn(|cx| {
            if self.connection.poll_work(cx) {
                return Poll::Ready(Next::Work);
            }
            if self.timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Next::Timer);
            }
            let mut wire = self.connection.wire.lock();
            // A request that is there already goes first, so that a stream that never pauses does not keep it waiting.
            let mut has_more = std::mem::take(&mut self.has_more);
            if !wire.out.is_empty() {
                match wire.poll_flush(cx) {
                    Poll::Ready(Ok(())) => {
                        self.blocked = None;
                        has_more = true;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Next::Gone),
                    Poll::Pending => {
                        let written = wire.written;
                        if self.blocked.is_none_or(|(_, before)| before != written) {
                            self.blocked = Some((Instant::now(), written));
                            // Once more, so that the timer is set by the new deadline.
                            cx.waker().wake_by_ref();
                            return Poll::Ready(Next::Work);
                        }
                    }
                }
            } else {
                self.blocked = None;
            }
            if wire.waiting() > MAX_WAITING {
                return Poll::Pending;
            }
            match self.ws.read(&mut Adapter { wire: &mut wire, cx }) {
                Ok(message) => Poll::Ready(Next::Message(message)),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => match wire.out.is_empty() {
                    true if has_more => Poll::Ready(Next::Work),
                    true => Poll::Pending,
                    false if self.blocked.is_some() => Poll::Pending,
                    false => Poll::Ready(Next::Work),
                },
                Err(error) => {
                    self.is_unreadable = true;
                    Poll::Ready(close_reason(&error).map_or(Next::Gone, Next::Close))
                }
            }
        })
        .await
    }

    /// Queues a message. Goes behind everything the connection was given before.
    pub(super) fn send(&self, message: &ServerMessage) {
        if let Ok(text) = serde_json::to_string(message) {
            self.connection.wire.lock().out.push_back(text_frame(&text));
        }
    }

    pub(super) fn send_error(&self, code: ErrorCode, message: impl Into<String>, identifier: Option<String>) {
        self.send(&ServerMessage::Error(ErrorMessage { message: message.into(), code, identifier }));
    }

    pub(super) fn ping(&mut self) {
        self.with_adapter(|ws, adapter| ws.write(adapter, Message::Ping(Bytes::new())));
    }

    /// Has the library send what it owes: pongs, the answer to a close.
    pub(super) fn flush_control(&mut self) {
        self.with_adapter(|ws, adapter| ws.flush(adapter));
    }

    fn with_adapter(
        &mut self,
        act: impl FnOnce(&mut tungstenite::protocol::WebSocketContext, &mut Adapter<'_, '_>) -> Result<(), Error>,
    ) {
        let mut wire = self.connection.wire.lock();
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        // The adapter takes any write; all that can fail is writing behind a close, which is no loss.
        let _ = act(&mut self.ws, &mut Adapter { wire: &mut wire, cx });
    }

    /// Answers the peer's close and lets the socket go.
    pub(super) async fn flush_close(&mut self) {
        self.leave_all();
        self.flush_control();
        let _ = timeout(CLOSE_GRACE, poll_fn(|cx| self.connection.wire.lock().poll_flush(cx))).await;
        self.shutdown().await;
    }

    /// Closes the connection: what is already accepted goes out, then the close frame; the peer has a moment to answer it.
    pub(super) async fn shut(&mut self, reason: CloseReason) {
        self.leave_all();
        let frame = CloseFrame { code: CloseCode::from(reason.code()), reason: reason.text().into() };
        self.with_adapter(|ws, adapter| ws.close(adapter, Some(frame)));
        let closing = async {
            if poll_fn(|cx| self.connection.wire.lock().poll_flush(cx)).await.is_err() {
                return;
            }
            // Closing a socket with unread bytes in it resets it, and the peer would lose the close frame.
            while !self.is_unreadable && !matches!(self.next().await, Next::Gone) {
                self.timer.as_mut().reset((Instant::now() + CLOSE_GRACE).into());
            }
            if self.is_unreadable {
                self.discard().await;
            }
        };
        let _ = timeout(CLOSE_GRACE, closing).await;
        self.shutdown().await;
    }

    /// Ends our side and reads what the peer still sends, unseen, until it ends its own.
    async fn discard(&self) {
        let ended = poll_fn(|cx| match &mut self.connection.wire.lock().io {
            Some(io) => Pin::new(io).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        });
        let _ = ended.await;
        let mut unseen = [0; 4096];
        let mut read = async || {
            poll_fn(|cx| match &mut self.connection.wire.lock().io {
                Some(io) => read_into(&mut unseen, |buffer| Pin::new(io).poll_read(cx, buffer)),
                None => Poll::Ready(Ok(0)),
            })
            .await
        };
        while matches!(read().await, Ok(1..)) {}
    }

    async fn shutdown(&mut self) {
        let closing = poll_fn(|cx| match &mut self.connection.wire.lock().io {
            Some(io) => Pin::new(io).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        });
        let _ = timeout(CLOSE_GRACE, closing).await;
        let sent = self.connection.sent.load(Ordering::Relaxed);
        tracing::trace!(sent, "socket shut down");
    }

    /// Ends every subscription, so that no feed writes behind the close frame.
    fn leave_all(&mut self) {
        let subscriptions = std::mem::take(&mut self.connection.wire.lock().subscriptions);
        for subscription in subscriptions {
            self.hub.leave(&subscription.feed, subscription.member);
        }
    }
}

/// How an error of the library ends the connection; `None` where the peer is gone already.
fn close_reason(error: &Error) -> Option<CloseReason> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Some(CloseReason::TooBig),
        Error::Utf8(_) => Some(CloseReason::NotUtf8),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(CloseReason::ProtocolError),
        _ => None,
    }
}
