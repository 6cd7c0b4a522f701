//! The connections of followers, and the fields of messages that they read.

use std::net::SocketAddr;
use std::time::Duration;

use callscope_tests::Socket;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

/// Limit of an upgrade and of a write. A stopped server accepts connections and does not answer.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(3);
/// Receive buffer of a slow follower, so that the server soon finds the socket full.
const SLOW_RECEIVE_BUFFER_BYTES: u32 = 8 * 1024;

/// The fields of a message that a follower reads.
#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "the protocol's own fields")]
pub struct ServerMessage {
    pub r#type: String,
    pub seq: Option<i64>,
    pub cursor: Option<String>,
    pub call_sid: Option<String>,
    pub conversation_id: Option<String>,
    pub message_text: Option<String>,
    pub identifier: Option<String>,
    pub call_id: Option<uuid::Uuid>,
    pub status: Option<String>,
    pub code: Option<String>,
    pub message: Option<String>,
    pub after_ms: Option<u64>,
}

/// Connects to a server; `None` if the connection fails, is refused or takes too long.
pub async fn connect(address: SocketAddr, token: &str, is_slow: bool) -> Option<Socket> {
    let buffer = is_slow.then_some(SLOW_RECEIVE_BUFFER_BYTES);
    timeout(SOCKET_TIMEOUT, Socket::connect(address, token, buffer)).await.ok()?.ok()
}

/// Sends a message. Errors are ignored, because the next read reports a broken connection.
pub async fn send(socket: &mut Socket, message: &Value) {
    let _ = timeout(SOCKET_TIMEOUT, socket.send(message)).await;
}
