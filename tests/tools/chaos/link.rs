//! One WebSocket connection of a follower.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

/// For the upgrade; a server that stands still takes connections and does not answer them.
const UPGRADE: Duration = Duration::from_secs(3);
/// A slow reader's receive buffer, so that the server soon finds the socket full.
const SMALL: u32 = 8 * 1024;

/// A connection.
#[derive(Debug)]
pub struct Link {
    socket: WebSocketStream<TcpStream>,
}

/// What a connection brings.
#[derive(Debug)]
pub enum Came {
    /// A message.
    Text(String),
    /// The end, with its code; 1006 where none was said.
    Closed(u16),
}

/// A message, as far as a follower reads it.
#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "the protocol's own fields")]
pub struct Told {
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

impl Link {
    /// Connects; `None` where that fails.
    pub async fn connect(address: SocketAddr, token: &str, is_slow: bool) -> Option<Self> {
        let upgrade = async {
            let socket = TcpSocket::new_v4().ok()?;
            if is_slow {
                socket.set_recv_buffer_size(SMALL).ok()?;
            }
            let stream = socket.connect(address).await.ok()?;
            let mut request = format!("ws://{address}/ws/calls/transcriptions").into_client_request().ok()?;
            request.headers_mut().insert("Authorization", format!("Bearer {token}").parse().ok()?);
            let (socket, _) = client_async(request, stream).await.ok()?;
            Some(Self { socket })
        };
        timeout(UPGRADE, upgrade).await.ok()?
    }

    /// Sends a message; a broken connection shows when it is read.
    pub async fn send(&mut self, message: &Value) {
        let _ = timeout(UPGRADE, self.socket.send(Message::text(message.to_string()))).await;
    }

    /// What comes next.
    pub async fn next(&mut self) -> Came {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Came::Text(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => return Came::Closed(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Came::Closed(1006),
            }
        }
    }
}
