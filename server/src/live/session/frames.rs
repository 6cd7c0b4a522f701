//! Decodes a client's bytes as a session does, without a connection. The fuzz targets use it.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use callscope_common::protocol::{CloseReason, MAX_CLIENT_MESSAGE};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, duplex};
use tungstenite::Message;

use super::codec::{Codec, SessionEvent};
use crate::live::connection::ConnectionState;

/// What a client's bytes decode to.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Texts of the text frames, in order.
    pub texts: Vec<String>,
    /// Number of binary frames.
    pub binaries: usize,
    /// The control frames of the server: pongs, and the answer to a close.
    pub sent: Vec<u8>,
    /// Why the session would close the connection.
    pub close: Option<CloseReason>,
}

/// Decodes `bytes` as a session does if they arrive in pieces of at most `piece` bytes.
///
/// # Panics
/// Panics if the framing breaks its own rules.
#[must_use]
pub fn decode(bytes: &[u8], piece: usize) -> Decoded {
    let cx = &mut Context::from_waker(Waker::noop());
    let (mut near, far) = duplex(1 << 20);
    let state = Mutex::new(ConnectionState::new(far.into()));
    let mut codec = Codec::new(MAX_CLIENT_MESSAGE);
    let mut decoded = Decoded { texts: Vec::new(), binaries: 0, sent: Vec::new(), close: None };
    'parts: for part in bytes.chunks(piece.max(1)) {
        let written = Pin::new(&mut near).poll_write(cx, part);
        assert!(matches!(written, Poll::Ready(Ok(len)) if len == part.len()), "the pipe is large enough");
        loop {
            decoded.sent.extend(drain(&mut near));
            let next = codec.poll_next(&mut state.lock(), cx, false);
            match next {
                Poll::Pending => break,
                Poll::Ready(
                    SessionEvent::Woken
                    | SessionEvent::Timer
                    | SessionEvent::Message(Message::Pong(_) | Message::Frame(_)),
                ) => {}
                Poll::Ready(SessionEvent::Message(Message::Text(text))) => decoded.texts.push(text.to_string()),
                Poll::Ready(SessionEvent::Message(Message::Binary(_))) => decoded.binaries += 1,
                Poll::Ready(SessionEvent::Message(Message::Ping(_))) => codec.flush_control(&state),
                Poll::Ready(SessionEvent::Message(Message::Close(_))) => {
                    codec.flush_control(&state);
                    break 'parts;
                }
                Poll::Ready(SessionEvent::Disconnected) => break 'parts,
                Poll::Ready(SessionEvent::Close(reason)) => {
                    decoded.close = Some(reason);
                    break 'parts;
                }
            }
        }
    }
    let _ = state.lock().poll_flush(cx);
    decoded.sent.extend(drain(&mut near));
    decoded
}

fn drain(near: &mut tokio::io::DuplexStream) -> Vec<u8> {
    let cx = &mut Context::from_waker(Waker::noop());
    let mut bytes = [0; 4096];
    let mut all = Vec::new();
    loop {
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut *near).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => all.extend(buffer.filled()),
            _ => return all,
        }
    }
}
