//! A follower inside the process. A probe message takes the way of every event: through hub, feed and connection, to
//! the other end of a socket. Its arrival shows that this way works.

use std::io;
use std::sync::Arc;

use callscope_common::claims::Role;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::Hub;
use super::connection::{Connection, Subscription};
use super::log_tail::LogTail;
use crate::auth::Identity;
use crate::clock;

pub use super::followed_calls::PROBE_CALL;

/// Capacity of the pipe: far more than the probe messages that can wait in it.
const PIPE_BYTES: usize = 16 * 1024;
/// Id of the connection's only subscription.
const SUBSCRIPTION_ID: u64 = 0;

/// A follower of [`PROBE_CALL`] until it is dropped.
pub struct Probe {
    hub: Hub,
    log_tail: Arc<LogTail>,
    feed_member_id: usize,
    pipe: DuplexStream,
}

impl Probe {
    /// Starts to follow. A probe is not listed among the connections.
    #[must_use]
    pub fn new(hub: &Hub) -> Self {
        let (near, pipe) = duplex(PIPE_BYTES);
        let now = clock::now();
        let identity =
            Identity { username: "probe".into(), uid: None, role: Role::Viewer, calls: Some(Vec::new()), expires: now };
        let connection = Arc::new(Connection::new(identity, None, now, near.into()));
        let (log_tail, feed_member_id) = hub.join(PROBE_CALL, &connection, SUBSCRIPTION_ID);
        connection.state.lock().subscriptions.push(Subscription {
            id: SUBSCRIPTION_ID,
            log_tail: Arc::clone(&log_tail),
            feed_member_id,
            names: Vec::new(),
            call_sid: String::new(),
            cursor: log_tail.head(),
            confirmed_head: 0,
            caught_up: true,
            end_reason: None,
        });
        Self { hub: hub.clone(), log_tail, feed_member_id, pipe }
    }

    /// Waits until a message that contains `text` arrives.
    ///
    /// # Errors
    /// Returns an error if the pipe breaks.
    pub async fn receives(&mut self, text: &str) -> io::Result<()> {
        let mut received = Vec::new();
        while !received.windows(text.len()).any(|window| window == text.as_bytes()) {
            if self.pipe.read_buf(&mut received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.hub.leave(&self.log_tail, self.feed_member_id);
    }
}
