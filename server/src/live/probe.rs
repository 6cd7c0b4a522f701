//! A follower inside the process. What is published for it takes the way of every event, through hub, feed and
//! connection, to the other end of a socket. It shows whether that way is open.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::Hub;
use super::connection::{Connection, Subscription};
use super::log_tail::LogTail;
use crate::auth::{Identity, Role};
use crate::clock;

pub use super::followed_calls::PROBE_CALL;

/// Bytes that the pipe holds: far more than the messages of a few probes at once.
const PIPE_BYTES: usize = 16 * 1024;
/// Id of the connection's only subscription.
const SUBSCRIPTION: u64 = 0;

/// A follower of [`PROBE_CALL`] until it is dropped.
pub struct Probe {
    hub: Hub,
    tail: Arc<LogTail>,
    member: usize,
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
        let (tail, member) = hub.join(PROBE_CALL, &connection, SUBSCRIPTION);
        connection.state.lock().subscriptions.push(Subscription {
            id: SUBSCRIPTION,
            tail: Arc::clone(&tail),
            member,
            names: Vec::new(),
            call_sid: String::new(),
            cursor: tail.head(),
            confirmed: 0,
            caught_up: true,
            end_reason: None,
        });
        Self { hub: hub.clone(), tail, member, pipe }
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
        self.hub.leave(&self.tail, self.member);
    }
}
