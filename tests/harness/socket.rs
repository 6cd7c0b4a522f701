//! WebSocket connections to a server, and the bytes of one for clients that use no library.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// The path at which a server takes subscribers.
pub const PATH: &str = "/ws/calls/transcriptions";

#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
}

impl Socket {
    /// Connects with `token`. A small `receive_buffer`, in bytes, makes the server soon find the socket full.
    ///
    /// # Errors
    /// Returns what the client library says, which is the server's response if the upgrade was refused.
    pub async fn connect(address: SocketAddr, token: &str, receive_buffer: Option<u32>) -> Result<Self, Error> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = socket.connect(address).await?;
        let mut request = format!("ws://{address}{PATH}").into_client_request()?;
        request.headers_mut().insert("Authorization", format!("Bearer {token}").parse()?);
        Ok(Self { stream: client_async(request, stream).await?.0 })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// Returns an error if the connection is broken.
    pub async fn send(&mut self, message: &Value) -> Result<(), Error> {
        self.stream.send(Message::text(message.to_string())).await
    }

    /// Returns the next message, which is not a ping or pong.
    ///
    /// # Errors
    /// Returns the close code if the connection ended: 1005 if the server gave none, 1006 if it did not close in order.
    pub async fn next(&mut self) -> Result<String, u16> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(1006),
            }
        }
    }

    /// Returns the library's connection, for tests that misbehave.
    pub fn stream(&mut self) -> &mut WebSocketStream<TcpStream> {
        &mut self.stream
    }
}

/// Returns the address of the server at `url`, as it stands in a `Host` header.
#[must_use]
pub fn host(url: &str) -> &str {
    url.trim_start_matches("http://")
}

/// Returns the request that upgrades a connection at `path`; each of `headers` ends with CRLF.
#[must_use]
pub fn upgrade_request(path: &str, host: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// Returns a client's frame (RFC 6455 section 5.2) of less than 64 KiB. Its mask is zero, so the payload is readable.
#[must_use]
pub fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(len @ ..126) => frame.push(0x80 | len),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(payload.len()).expect("the payload is short").to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}
