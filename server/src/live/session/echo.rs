//! A session that sends back every message it receives, as conformance suites for WebSocket servers expect.
//!
//! The echo uses the `Codec`, socket, output buffer and frame encoder of real sessions, so that the verdict of a
//! conformance suite holds for them too.

use parking_lot::Mutex;
use tungstenite::Message;

use super::codec::{Codec, SessionEvent};
use crate::live::connection::ConnectionState;
use crate::live::frame::text_frame;
use crate::live::socket::Socket;

/// Serves an upgraded socket until it ends. A message over `max_bytes` ends it.
pub async fn run(io: impl Into<Socket>, max_bytes: usize) {
    let state = Mutex::new(ConnectionState::new(io.into()));
    let mut codec = Codec::new(max_bytes);
    loop {
        match codec.next(&state).await {
            SessionEvent::Message(Message::Text(text)) => state.lock().out.push_back(text_frame(&text)),
            // Sessions send no binary frames, so the library encodes this one.
            SessionEvent::Message(message @ Message::Binary(_)) => codec.write(&state, message),
            SessionEvent::Message(Message::Ping(_)) => codec.flush_control(&state),
            SessionEvent::Message(Message::Close(_)) => return codec.answer_close(&state).await,
            SessionEvent::Message(Message::Pong(_) | Message::Frame(_)) | SessionEvent::Woken | SessionEvent::Timer => {
            }
            SessionEvent::Close(reason) => return codec.close(&state, reason).await,
            SessionEvent::Disconnected => return,
        }
    }
}
