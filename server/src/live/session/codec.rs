//! The WebSocket framing of one connection: decodes messages, encodes control frames and closes in order.
//!
//! The codec knows nothing of calls and subscriptions. A session drives it. With the feature `testing`, an echo drives
//! it too, so that foreign clients can test the framing alone.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use callscope_common::protocol::CloseReason;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Bytes, Message};

use super::{CLOSE_TIMEOUT, MAX_UNSENT_BYTES, READ_BUFFER_BYTES};
use crate::live::connection::ConnectionState;
use crate::live::frame::read_into;

/// What a session waits for.
pub(super) enum SessionEvent {
    /// A signal was left, or the socket took the queued bytes.
    Woken,
    /// The session's timer fired. The codec itself never returns this.
    Timer,
    Message(Message),
    Disconnected,
    /// The peer broke a rule of the protocol or a limit, and the connection has to be closed.
    Close(CloseReason),
}

pub(super) struct Codec {
    ws: WebSocketContext,
    /// While the socket takes nothing: since when, and [`ConnectionState::flushed_bytes`] at that time.
    pub blocked: Option<(Instant, u64)>,
    /// Bytes read since the last whole message that the rate limit has not counted yet.
    pub unmetered_bytes: usize,
    /// A framing error occurred: the peer's further bytes can only be discarded.
    is_unreadable: bool,
}

/// The connection as the WebSocket library sees it: reads come from the socket, writes go to the output buffer.
struct Adapter<'w, 'c> {
    state: &'w mut ConnectionState,
    cx: &'w mut Context<'c>,
    unmetered_bytes: &'w mut usize,
}

impl Read for Adapter<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(io) = &mut self.state.io else { return Err(io::ErrorKind::NotConnected.into()) };
        match read_into(buffer, |buffer| Pin::new(io).poll_read(self.cx, buffer)) {
            Poll::Ready(result) => result.inspect(|read| *self.unmetered_bytes += read),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Adapter<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.state.out.push_back(bytes::Bytes::copy_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Codec {
    /// Creates the server's side. Longer messages and frames end the connection.
    pub fn new(max_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(max_bytes))
            .max_frame_size(Some(max_bytes));
        let ws = WebSocketContext::new(Role::Server, Some(config));
        Self { ws, blocked: None, unmetered_bytes: 0, is_unreadable: false }
    }

    /// Flushes queued bytes and reads a message. With `has_more`, returns [`SessionEvent::Woken`] instead of pending if
    /// everything is flushed.
    pub fn poll_next(
        &mut self,
        state: &mut ConnectionState,
        cx: &mut Context<'_>,
        mut has_more: bool,
    ) -> Poll<SessionEvent> {
        if state.out.is_empty() {
            self.blocked = None;
        } else {
            match state.poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.blocked = None;
                    has_more = true;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(SessionEvent::Disconnected),
                Poll::Pending => {
                    let flushed_bytes = state.flushed_bytes;
                    if self.blocked.is_none_or(|(_, before)| before != flushed_bytes) {
                        self.blocked = Some((Instant::now(), flushed_bytes));
                        // The session sets its timer to the new write deadline and polls again.
                        cx.waker().wake_by_ref();
                        return Poll::Ready(SessionEvent::Woken);
                    }
                }
            }
        }
        if state.unsent_bytes() > MAX_UNSENT_BYTES {
            // No request is read. The flush above wakes the task when the socket takes bytes again.
            return Poll::Pending;
        }
        match self.ws.read(&mut Adapter { state, cx, unmetered_bytes: &mut self.unmetered_bytes }) {
            Ok(message) => {
                self.unmetered_bytes = 0;
                Poll::Ready(SessionEvent::Message(message))
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => match state.out.is_empty() {
                true if has_more => Poll::Ready(SessionEvent::Woken),
                true => Poll::Pending,
                false if self.blocked.is_some() => Poll::Pending,
                // The library answered a control frame, so there are bytes to flush.
                false => Poll::Ready(SessionEvent::Woken),
            },
            Err(error) => {
                self.is_unreadable = true;
                Poll::Ready(close_reason(&error).map_or(SessionEvent::Disconnected, SessionEvent::Close))
            }
        }
    }

    pub async fn next(&mut self, state: &Mutex<ConnectionState>) -> SessionEvent {
        poll_fn(|cx| self.poll_next(&mut state.lock(), cx, false)).await
    }

    /// Queues a message that the library frames.
    pub fn write(&mut self, state: &Mutex<ConnectionState>, message: Message) {
        self.with_adapter(state, |ws, adapter| ws.write(adapter, message));
    }

    pub fn ping(&mut self, state: &Mutex<ConnectionState>) {
        self.write(state, Message::Ping(Bytes::new()));
    }

    /// Queues the control frames that the library owes: pongs, and the answer to a close.
    pub fn flush_control(&mut self, state: &Mutex<ConnectionState>) {
        self.with_adapter(state, |ws, adapter| ws.flush(adapter));
    }

    fn with_adapter(
        &mut self,
        state: &Mutex<ConnectionState>,
        act: impl FnOnce(&mut WebSocketContext, &mut Adapter<'_, '_>) -> Result<(), Error>,
    ) {
        let mut state = state.lock();
        let cx = &mut Context::from_waker(Waker::noop());
        // The adapter accepts every write, so only a message after a close frame fails, and no one would read it.
        let _ = act(&mut self.ws, &mut Adapter { state: &mut state, cx, unmetered_bytes: &mut self.unmetered_bytes });
    }

    /// Answers the peer's close frame and shuts the socket down.
    pub async fn answer_close(&mut self, state: &Mutex<ConnectionState>) {
        self.flush_control(state);
        let _ = timeout(CLOSE_TIMEOUT, poll_fn(|cx| state.lock().poll_flush(cx))).await;
        shutdown(state).await;
    }

    /// Closes the connection: sends the queued bytes and the close frame, and waits up to [`CLOSE_TIMEOUT`] for the
    /// answer.
    pub async fn close(&mut self, state: &Mutex<ConnectionState>, reason: CloseReason) {
        let frame = CloseFrame { code: CloseCode::from(reason.code()), reason: reason.text().into() };
        self.with_adapter(state, |ws, adapter| ws.close(adapter, Some(frame)));
        let closing = async {
            if poll_fn(|cx| state.lock().poll_flush(cx)).await.is_err() {
                return;
            }
            // The peer's bytes are read to their end: closing a socket with unread bytes resets the connection, and the
            // peer might lose the close frame.
            while !self.is_unreadable && !matches!(self.next(state).await, SessionEvent::Disconnected) {}
            if self.is_unreadable {
                discard(state).await;
            }
        };
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
        shutdown(state).await;
    }
}

/// Shuts down the sending side, and discards what the peer sends until it shuts down its own.
async fn discard(state: &Mutex<ConnectionState>) {
    shutdown(state).await;
    let mut discarded = [0; 4096];
    let mut read = async || {
        poll_fn(|cx| match &mut state.lock().io {
            Some(io) => read_into(&mut discarded, |buffer| Pin::new(io).poll_read(cx, buffer)),
            None => Poll::Ready(Ok(0)),
        })
        .await
    };
    while matches!(read().await, Ok(1..)) {}
}

async fn shutdown(state: &Mutex<ConnectionState>) {
    let closing = poll_fn(|cx| match &mut state.lock().io {
        Some(io) => Pin::new(io).poll_shutdown(cx),
        None => Poll::Ready(Ok(())),
    });
    let _ = timeout(CLOSE_TIMEOUT, closing).await;
}

/// The close reason for an error of the library; `None` if the connection broke.
fn close_reason(error: &Error) -> Option<CloseReason> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Some(CloseReason::TooBig),
        Error::Utf8(_) => Some(CloseReason::NotUtf8),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(CloseReason::ProtocolError),
        _ => None,
    }
}
