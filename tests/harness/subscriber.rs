//! A subscriber, with assertions about the messages that it receives.

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;

use crate::WAIT_TIMEOUT;
use crate::socket::{Socket, host};

/// A subscriber whose methods panic if the connection is broken or a message is not JSON.
#[derive(Debug)]
pub struct Subscriber {
    socket: Socket,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    Json(Value),
    /// The connection ended with this code, as [`Socket::next`] returns it.
    Closed(u16),
}

impl Subscriber {
    pub async fn connect(url: &str, token: &str) -> Self {
        Self::try_connect(url, token).await.expect("the upgrade is granted")
    }

    /// Connects to the server at `url`.
    ///
    /// # Errors
    ///
    /// Returns the error of the client library if the upgrade was refused.
    pub async fn try_connect(url: &str, token: &str) -> Result<Self, Error> {
        let address = host(url).parse().expect("a server's URL holds its address");
        Ok(Self { socket: Socket::connect(address, token, None).await? })
    }

    pub async fn send(&mut self, message: Value) {
        self.socket.send(&message).await.unwrap();
    }

    /// Sends `request` and returns the next message, which must be of the type `answer`.
    pub async fn ask(&mut self, request: Value, answer: &str) -> Value {
        self.send(request).await;
        self.expect(answer).await
    }

    /// Subscribes and returns the confirmation.
    pub async fn subscribe(&mut self, id: &str) -> Value {
        self.ask(json!({ "subscribe": id }), "subscription_confirmed").await
    }

    /// Returns the next message, or the close code if the connection has ended. Pings are skipped.
    pub async fn next(&mut self) -> Received {
        timeout(WAIT_TIMEOUT, self.next_without_timeout()).await.expect("a message comes in time")
    }

    /// Does what [`Self::next`] does, without a timeout.
    pub async fn next_without_timeout(&mut self) -> Received {
        match self.socket.next().await {
            Ok(text) => Received::Json(serde_json::from_str(&text).unwrap()),
            Err(code) => Received::Closed(code),
        }
    }

    pub async fn close(&mut self) {
        // The server may be gone already.
        let _ = self.socket.stream().close(None).await;
    }

    /// Does what [`Self::next`] does, but returns `None` if nothing has arrived yet.
    pub async fn try_next(&mut self) -> Option<Received> {
        futures_util::FutureExt::now_or_never(self.next_without_timeout())
    }

    /// Returns the next message.
    pub async fn message(&mut self) -> Value {
        match self.next().await {
            Received::Json(json) => json,
            Received::Closed(code) => panic!("closed with {code}"),
        }
    }

    /// Returns the next message, which must be of this type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let message = self.message().await;
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// Returns the next `count` events and skips other messages. Their seqs must be `first`, `first + 1` and so on.
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

    /// Sends a ping and asserts that the next message is its answer, so the server has sent nothing else before it.
    pub async fn expect_silence(&mut self) {
        self.send(json!({"ping": "silence"})).await;
        let message = self.message().await;
        assert_eq!(message, json!({"type": "pong", "ping": "silence"}));
    }

    /// Returns the client library's connection, for tests that send invalid frames.
    pub fn socket(&mut self) -> &mut WebSocketStream<TcpStream> {
        self.socket.stream()
    }
}
