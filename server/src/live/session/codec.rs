//! WebSocket framing of one connection: messages from the socket's bytes, control frames into them, and an orderly
//! close.
//!
//! It knows nothing of calls and subscriptions. A session drives it. With the feature `testing`, so does an echo, by
//! which foreign clients test the framing alone.

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

use super::{CLOSE_GRACE, MAX_UNSENT_BYTES, READ_BUFFER};
use crate::live::connection::ConnectionState;
use crate::live::frame::read_into;

/// What a session waits for.
pub(super) enum SessionEvent {
    /// A signal was left, or the socket took the queued bytes.
    Work,
    /// A deadline has passed. Only the session's own timer reports it.
    Timer,
    Message(Message),
    Gone,
    /// The peer broke a rule, and the connection has to be closed.
    Close(CloseReason),
}

pub(super) struct Codec {
    ws: WebSocketContext,
    /// While the peer takes nothing: since when, and how many bytes it had taken by then.
    pub blocked: Option<(Instant, u64)>,
    /// Bytes read since the last message that the rate limit has not counted yet.
    pub taken: usize,
    /// The peer's bytes can no longer be divided into frames.
    is_unreadable: bool,
}

/// The connection as the WebSocket library sees it: reads come from the socket, writes go to the output buffer.
struct Adapter<'w, 'c> {
    state: &'w mut ConnectionState,
    cx: &'w mut Context<'c>,
    taken: &'w mut usize,
}

impl Read for Adapter<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(io) = &mut self.state.io else { return Err(io::ErrorKind::NotConnected.into()) };
        match read_into(buffer, |buffer| Pin::new(io).poll_read(self.cx, buffer)) {
            Poll::Ready(result) => result.inspect(|read| *self.taken += read),
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
    /// Creates the server's side. Messages and frames over `limit` bytes end the connection.
    pub fn new(limit: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        Self { ws: WebSocketContext::new(Role::Server, Some(config)), blocked: None, taken: 0, is_unreadable: false }
    }

    /// Sends queued bytes and reads a message. With `has_more` it is never pending while the socket takes all there is.
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
                Poll::Ready(Err(_)) => return Poll::Ready(SessionEvent::Gone),
                Poll::Pending => {
                    let written = state.written;
                    if self.blocked.is_none_or(|(_, before)| before != written) {
                        self.blocked = Some((Instant::now(), written));
                        // Poll again, so that the timer is set to the new deadline.
                        cx.waker().wake_by_ref();
                        return Poll::Ready(SessionEvent::Work);
                    }
                }
            }
        }
        if state.unsent_bytes() > MAX_UNSENT_BYTES {
            return Poll::Pending;
        }
        match self.ws.read(&mut Adapter { state, cx, taken: &mut self.taken }) {
            Ok(message) => {
                self.taken = 0;
                Poll::Ready(SessionEvent::Message(message))
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => match state.out.is_empty() {
                true if has_more => Poll::Ready(SessionEvent::Work),
                true => Poll::Pending,
                false if self.blocked.is_some() => Poll::Pending,
                false => Poll::Ready(SessionEvent::Work),
            },
            Err(error) => {
                self.is_unreadable = true;
                Poll::Ready(close_reason(&error).map_or(SessionEvent::Gone, SessionEvent::Close))
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
        // The adapter takes every write. Only a write after a close can fail, which is no loss.
        let _ = act(&mut self.ws, &mut Adapter { state: &mut state, cx, taken: &mut self.taken });
    }

    /// Answers the peer's close and releases the socket.
    pub async fn answer_close(&mut self, state: &Mutex<ConnectionState>) {
        self.flush_control(state);
        let _ = timeout(CLOSE_GRACE, poll_fn(|cx| state.lock().poll_flush(cx))).await;
        shutdown(state).await;
    }

    /// Closes the connection: queued bytes go out, then the close frame, and the peer has a moment to answer it.
    pub async fn close(&mut self, state: &Mutex<ConnectionState>, reason: CloseReason) {
        let frame = CloseFrame { code: CloseCode::from(reason.code()), reason: reason.text().into() };
        self.with_adapter(state, |ws, adapter| ws.close(adapter, Some(frame)));
        let closing = async {
            if poll_fn(|cx| state.lock().poll_flush(cx)).await.is_err() {
                return;
            }
            // To close a socket with unread bytes resets it, and the peer would lose the close frame.
            while !self.is_unreadable && !matches!(self.next(state).await, SessionEvent::Gone) {}
            if self.is_unreadable {
                discard(state).await;
            }
        };
        let _ = timeout(CLOSE_GRACE, closing).await;
        shutdown(state).await;
    }
}

/// Shuts down the sending side, and discards what the peer sends until it shuts down its own.
async fn discard(state: &Mutex<ConnectionState>) {
    let ended = poll_fn(|cx| match &mut state.lock().io {
        Some(io) => Pin::new(io).poll_shutdown(cx),
        None => Poll::Ready(Ok(())),
    });
    let _ = ended.await;
    let mut unseen = [0; 4096];
    let mut read = async || {
        poll_fn(|cx| match &mut state.lock().io {
            Some(io) => read_into(&mut unseen, |buffer| Pin::new(io).poll_read(cx, buffer)),
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
    let _ = timeout(CLOSE_GRACE, closing).await;
}

/// The close reason for an error of the library; `None` if the peer is gone already.
fn close_reason(error: &Error) -> Option<CloseReason> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Some(CloseReason::TooBig),
        Error::Utf8(_) => Some(CloseReason::NotUtf8),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(CloseReason::ProtocolError),
        _ => None,
    }
}
