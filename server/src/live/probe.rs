//! A follower inside the process: what is announced for it takes the way of every event, through hub, feed and wire, to a
//! socket's other end. It shows whether that way is open.

use std::io;
use std::sync::Arc;

use callscope_common::CallId;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::Hub;
use super::connection::{Connection, Subscription};
use super::feed::Feed;
use crate::auth::{Identity, Role};
use crate::clock;

/// The call that only probes follow; it is in no database.
pub const CALL: CallId = CallId::nil();
/// Bytes the pipe holds; far more than the announcements of a few probes at once.
const PIPE: usize = 16 * 1024;
/// The only subscription of the connection.
const SUBSCRIPTION: u64 = 0;

/// The follower; leaves with its handle.
pub struct Probe {
    hub: Hub,
    feed: Arc<Feed>,
    member: usize,
    pipe: DuplexStream,
}

impl Probe {
    /// Begins to follow. Not listed among the connections.
    #[must_use]
    pub fn new(hub: &Hub) -> Self {
        let (near, pipe) = duplex(PIPE);
        let now = clock::now();
        let identity =
            Identity { username: "probe".into(), uid: None, role: Role::Viewer, calls: Some(Vec::new()), expires: now };
        let connection = Arc::new(Connection::new(identity, None, now, near.into()));
        let (feed, member) = hub.join(CALL, &connection, SUBSCRIPTION);
        connection.wire.lock().subscriptions.push(Subscription {
            id: SUBSCRIPTION,
            feed: Arc::clone(&feed),
            member,
            names: Vec::new(),
            call_sid: String::new(),
            cursor: feed.head(),
            confirmed: 0,
            caught_up: true,
            end_reason: None,
        });
        Self { hub: hub.clone(), feed, member, pipe }
    }

    /// Waits until a message that holds `text` arrives.
    ///
    /// # Errors
    /// The pipe broke.
    pub async fn receives(&mut self, text: &str) -> io::Result<()> {
        let mut heard = Vec::new();
        while !heard.windows(text.len()).any(|window| window == text.as_bytes()) {
            if self.pipe.read_buf(&mut heard).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.hub.leave(&self.feed, self.member);
    }
}
