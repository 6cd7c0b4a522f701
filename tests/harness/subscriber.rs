//! A WebSocket client that remembers what it got.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::PATIENCE;

/// A connected client.
#[derive(Debug)]
pub struct Subscriber {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What a client receives.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// A message.
    Json(Value),
    /// The server closed, with this code; 1006 where it did not say.
    Closed(u16),
}

impl Subscriber {
    /// Connects to the server at `url`.
    pub async fn connect(url: &str, token: &str) -> Self {
        Self::try_connect(url, token).await.expect("the upgrade is granted")
    }

    /// Connects to the server at `url`.
    ///
    /// # Errors
    /// What the client library says.
    pub async fn try_connect(url: &str, token: &str) -> Result<Self, Error> {
        let url = format!("{}/ws/calls/transcriptions", url.replacen("http", "ws", 1));
        let mut request = url.into_client_request()?;
        request.headers_mut().insert("Authorization", format!("Bearer {token}").parse().unwrap());
        Ok(Self { socket: connect_async(request).await?.0 })
    }

    /// Sends a message.
    pub async fn send(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    /// Subscribes and takes in the confirmation.
    pub async fn subscribe(&mut self, id: &str) -> Value {
        self.send(json!({ "subscribe": id })).await;
        self.expect("subscription_confirmed").await
    }

    /// The next message or the end, pings aside.
    pub async fn next(&mut self) -> Received {
        timeout(PATIENCE, self.next_whenever()).await.expect("something comes in time")
    }

    /// The next message or the end, however long it takes.
    pub async fn next_whenever(&mut self) -> Received {
        loop {
            return match self.socket.next().await {
                Some(Ok(Message::Text(text))) => Received::Json(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => Received::Closed(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => Received::Closed(1006),
            };
        }
    }

    /// Closes from this side.
    pub async fn close(&mut self) {
        // A server that is gone already needs no word.
        let _ = self.socket.close(None).await;
    }

    /// What has come already, if anything has.
    pub async fn at_hand(&mut self) -> Option<Received> {
        futures_util::FutureExt::now_or_never(self.next_whenever())
    }

    /// The next message.
    pub async fn message(&mut self) -> Value {
        match self.next().await {
            Received::Json(json) => json,
            Received::Closed(code) => panic!("closed with {code}"),
        }
    }

    /// The next message, which is of that type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let message = self.message().await;
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// The next `count` events, which follow each other from `first` on.
    pub async fn events(&mut self, first: i64, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        while events.len() < count {
            let message = self.message().await;
            if message["seq"].is_i64() && message["type"] != "subscription_confirmed" {
                let expected = first + i64::try_from(events.len()).unwrap();
                assert_eq!(message["seq"], expected, "out of order: {message}");
                events.push(message);
            }
        }
        events
    }

    /// Asserts that nothing but the answer to a ping comes: everything sent before it has been received.
    pub async fn expect_silence(&mut self) {
        self.send(json!({"ping": "silence"})).await;
        let message = self.message().await;
        assert_eq!(message, json!({"type": "pong", "ping": "silence"}));
    }

    /// The socket, for tests that misbehave.
    pub fn socket(&mut self) -> &mut WebSocketStream<MaybeTlsStream<TcpStream>> {
        &mut self.socket
    }
}
