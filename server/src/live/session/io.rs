//! The session's socket: waiting for the next event, sending, closing.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use callscope_common::protocol::{CloseReason, ErrorCode, ErrorMessage, ServerMessage};

use super::Session;
use super::codec::SessionEvent;
use crate::live::frame::text_frame;
use crate::live::rate_limit::RateDecision;

/// Bytes of an unfinished message that the rate limit counts as one message.
const BYTES_PER_MESSAGE: usize = 8 * 1024;

impl Session {
    pub(super) async fn next(&mut self) -> SessionEvent {
        poll_fn(|cx| {
            if self.connection.poll_woken(cx) {
                return Poll::Ready(SessionEvent::Woken);
            }
            if self.timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(SessionEvent::Timer);
            }
            // With `has_more`, a request that has arrived still goes first, so that sending events does not delay it.
            let has_more = std::mem::take(&mut self.has_more);
            let next = self.codec.poll_next(&mut self.connection.state.lock(), cx, has_more);
            // An unfinished message counts too: otherwise a client could send an endless one outside the rate limit.
            while self.codec.unmetered_bytes >= BYTES_PER_MESSAGE {
                self.codec.unmetered_bytes -= BYTES_PER_MESSAGE;
                if self.rate_limit.count(Instant::now()) == RateDecision::Disconnect {
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
        self.send(&ServerMessage::Error(ErrorMessage {
            message: message.into(),
            code: code.into(),
            identifier,
            call_id: None,
        }));
    }

    /// Answers the peer's close frame and shuts the socket down.
    pub(super) async fn answer_close(&mut self) {
        self.leave_all();
        self.codec.answer_close(&self.connection.state).await;
    }

    /// Closes the connection: sends the queued bytes and the close frame, and waits a while for the answer.
    pub(super) async fn close(&mut self, reason: CloseReason) {
        self.leave_all();
        self.codec.close(&self.connection.state, reason).await;
    }

    /// Ends every subscription, so that no feed writes behind the close frame.
    fn leave_all(&mut self) {
        let subscriptions = std::mem::take(&mut self.connection.state.lock().subscriptions);
        for subscription in subscriptions {
            self.hub.leave(&subscription.log_tail, subscription.feed_member_id);
        }
    }
}
