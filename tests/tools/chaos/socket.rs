//! How followers connect and send, and what they read of messages.

use std::net::SocketAddr;
use std::time::Duration;

use callscope_tests::Socket;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

/// Limit of an upgrade and of a write. A stopped server accepts connections and does not answer them.
const DEADLINE: Duration = Duration::from_secs(3);
/// Receive buffer of a slow reader in bytes, so that the server soon finds the socket full.
const SMALL_BUFFER: u32 = 8 * 1024;

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

/// Connects; `None` if that fails.
pub async fn connect(address: SocketAddr, token: &str, is_slow: bool) -> Option<Socket> {
    let buffer = is_slow.then_some(SMALL_BUFFER);
    timeout(DEADLINE, Socket::connect(address, token, buffer)).await.ok()?.ok()
}

/// Sends a message. A broken connection shows when it is read.
pub async fn send(socket: &mut Socket, message: &Value) {
    let _ = timeout(DEADLINE, socket.send(message)).await;
}
