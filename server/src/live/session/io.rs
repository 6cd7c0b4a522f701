//! The session's socket: waiting for the next event, sending, closing.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use callscope_common::protocol::{CloseReason, ErrorCode, ErrorMessage, ServerMessage};

use super::Session;
use super::codec::SessionEvent;
use crate::live::frame::text_frame;
use crate::live::rate_limit::RateDecision;

/// As many bytes without a whole message count as one message.
const BYTES_PER_MESSAGE: usize = 8 * 1024;

impl Session {
    pub(super) async fn next(&mut self) -> SessionEvent {
        poll_fn(|cx| {
            if self.connection.poll_work(cx) {
                return Poll::Ready(SessionEvent::Work);
            }
            if self.timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(SessionEvent::Timer);
            }
            // A request that is there already goes first, so that an endless stream does not delay it.
            let has_more = std::mem::take(&mut self.has_more);
            let next = self.codec.poll_next(&mut self.connection.state.lock(), cx, has_more);
            // Bytes without a message count too: otherwise an endless message in pieces would cost its sender nothing.
            while self.codec.taken >= BYTES_PER_MESSAGE {
                self.codec.taken -= BYTES_PER_MESSAGE;
                if self.limit.take(Instant::now()) == RateDecision::Disconnect {
                    return Poll::Ready(SessionEvent::Close(CloseReason::RateExceeded));
                }
            }
            next
        })
        .await
    }

    /// Queues a message, behind everything that was queued before.
    pub(super) fn send(&self, message: &ServerMessage) {
        if let Ok(text) = serde_json::to_string(message) {
            self.connection.state.lock().out.push_back(text_frame(&text));
        }
    }

    pub(super) fn send_error(&self, code: ErrorCode, message: impl Into<String>, identifier: Option<String>) {
        self.send(&ServerMessage::Error(ErrorMessage { message: message.into(), code, identifier, call_id: None }));
    }

    pub(super) fn ping(&mut self) {
        self.codec.ping(&self.connection.state);
    }

    /// Queues the control frames that the library owes: pongs, and the answer to a close.
    pub(super) fn flush_control(&mut self) {
        self.codec.flush_control(&self.connection.state);
    }

    /// Answers the peer's close and releases the socket.
    pub(super) async fn answer_close(&mut self) {
        self.leave_all();
        self.codec.answer_close(&self.connection.state).await;
    }

    /// Closes the connection: queued bytes go out, then the close frame, and the peer has a moment to answer it.
    pub(super) async fn close(&mut self, reason: CloseReason) {
        self.leave_all();
        self.codec.close(&self.connection.state, reason).await;
    }

    /// Ends every subscription, so that no feed writes behind the close frame.
    fn leave_all(&mut self) {
        let subscriptions = std::mem::take(&mut self.connection.state.lock().subscriptions);
        for subscription in subscriptions {
            self.hub.leave(&subscription.tail, subscription.member);
        }
    }
}
