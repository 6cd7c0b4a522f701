//! WebSocket connections to a server, and the bytes of requests and frames for tests without a client library.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::WAIT_TIMEOUT;

/// The path at which a server accepts subscribers.
pub const PATH: &str = "/ws/calls/transcriptions";
/// The close code that stands for a close frame without a code (RFC 6455 section 7.4.1).
pub const NO_CLOSE_CODE: u16 = 1005;
/// The close code that stands for a connection that ended without a close frame.
pub const CONNECTION_LOST: u16 = 1006;

/// A WebSocket connection of a subscriber.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
}

impl Socket {
    /// Connects with `token`. With few `receive_buffer_bytes`, the server's writes soon block if nothing is read.
    ///
    /// # Errors
    /// Returns the client library's error, which holds the server's response if the upgrade was refused.
    pub async fn connect(address: SocketAddr, token: &str, receive_buffer_bytes: Option<u32>) -> Result<Self, Error> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_buffer_bytes {
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

    /// Returns the next text message. Pings and pongs are skipped.
    ///
    /// # Errors
    /// Returns the close code if the connection ended: [`NO_CLOSE_CODE`] if the close frame had none, and
    /// [`CONNECTION_LOST`] if there was no close frame.
    pub async fn next(&mut self) -> Result<String, u16> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(NO_CLOSE_CODE, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(CONNECTION_LOST),
            }
        }
    }

    /// Returns the client library's connection, for tests that send invalid frames.
    pub fn stream(&mut self) -> &mut WebSocketStream<TcpStream> {
        &mut self.stream
    }
}

/// Opens a connection to `address` and writes `bytes` to it.
pub async fn send(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Returns the first final HTTP answer on a connection, or the part of it that arrived before the close.
pub async fn answer(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    loop {
        let read =
            timeout(WAIT_TIMEOUT, stream.read_buf(&mut received)).await.expect("the answer comes in time").unwrap_or(0);
        let text = String::from_utf8_lossy(&received);
        let is_whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            head.starts_with("HTTP/1.1 101 ")
                || length.is_some_and(|length| body.len() >= length.parse::<usize>().unwrap())
        });
        if read == 0 || (is_whole && !text.starts_with("HTTP/1.1 100 ")) {
            return text.into_owned();
        }
    }
}

/// Returns the status of an HTTP answer.
pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

/// Returns the address in `url`, in the form of a `Host` header.
#[must_use]
pub fn host(url: &str) -> &str {
    url.trim_start_matches("http://")
}

/// Returns the upgrade request for `path`. Each line of `headers` ends with CRLF.
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
