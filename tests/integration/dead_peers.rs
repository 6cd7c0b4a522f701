//! Clients that vanish without closing, and clients that send too much.

use std::time::Duration;

use callscope_tests::socket::{PATH, host, send, upgrade_request};
use callscope_tests::subscriber::Received;
use callscope_tests::{Server, Subscriber};
use futures_util::SinkExt;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::interval;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// Reads until the connection is closed, and returns the close code.
async fn close_code(subscriber: &mut Subscriber) -> u16 {
    loop {
        if let Received::Closed(code) = subscriber.next().await {
            return code;
        }
    }
}

/// Opens a connection without a WebSocket library, which would answer pings.
async fn connect_raw(server: &Server) -> TcpStream {
    let host = host(&server.embedded.url);
    let request = upgrade_request(&format!("{PATH}?token={}", server.embedded.token), host, "");
    send(host, request.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_answers_no_ping_is_closed() {
    let variables = [("CALLSCOPE_PING_INTERVAL", "0.2"), ("CALLSCOPE_PONG_TIMEOUT", "1")];
    let server = Server::on_sqlite(&variables).await;
    let mut silent = connect_raw(&server).await;
    let mut answering = server.subscriber().await;
    let hub = server.embedded.hub.clone();
    let reading = tokio::spawn(async move {
        let mut ticks = interval(Duration::from_millis(50));
        while hub.sizes().connections > 1 {
            ticks.tick().await;
            answering.expect_silence().await;
        }
        answering
    });
    let mut answering = reading.await.unwrap();
    let mut received_bytes = Vec::new();
    silent.read_to_end(&mut received_bytes).await.unwrap();
    // This is a close frame (RFC 6455 section 5.5.1) with the code 4201.
    let close =
        received_bytes.windows(4).find(|bytes| bytes[0] == 0x88).map(|bytes| u16::from_be_bytes([bytes[2], bytes[3]]));
    assert_eq!(close, Some(4201));
    answering.expect_silence().await;
}

/// Sends `message` until the server closes; returns whether it warned, and the close code.
async fn flood(server: &Server, message: impl Fn() -> Message) -> (bool, u16) {
    let mut subscriber = server.subscriber().await;
    let mut was_warned = false;
    let mut ticks = interval(Duration::from_millis(5));
    loop {
        ticks.tick().await;
        for _ in 0..4 {
            if subscriber.socket().feed(message()).await.is_err() {
                break;
            }
        }
        let _ = subscriber.socket().flush().await;
        while let Some(received) = subscriber.try_next().await {
            match received {
                Received::Json(json) => was_warned |= json["code"] == "RATE_LIMITED",
                Received::Closed(code) => return (was_warned, code),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flooding_client_is_warned_and_then_closed() {
    let server = Server::on_sqlite(&[]).await;
    server.turn("EL_flood_1", "agent", "first").await;
    let subscribe = || Message::text(json!({"subscribe": "EL_flood_1"}).to_string());
    let ping = || Message::Ping("are you there".into());
    // No fragment ends its message (RFC 6455 section 5.4).
    let fragment = || Message::Frame(Frame::message(vec![b'x'; 16_000], OpCode::Data(Data::Continue), false));
    let (subscribes, pings, fragments) = tokio::join!(flood(&server, subscribe), flood(&server, ping), async {
        let mut subscriber = server.subscriber().await;
        let first = Frame::message("x", OpCode::Data(Data::Text), false);
        subscriber.socket().send(Message::Frame(first)).await.unwrap();
        for _ in 0..10 {
            let _ = subscriber.socket().send(fragment()).await;
        }
        close_code(&mut subscriber).await
    });
    assert_eq!(subscribes, (true, 4102));
    assert_eq!(pings, (true, 4102));
    // The fragments of one message share its limit of length.
    assert_eq!(fragments, 1009);
    let mut other = server.subscriber().await;
    other.expect_silence().await;
}

/// Empty fragments never reach the limit of a message's length, so the limit of requests has to apply to them.
#[tokio::test(flavor = "multi_thread")]
async fn endless_empty_fragments_of_a_message_end_in_a_close() {
    let server = Server::on_sqlite(&[]).await;
    let mut subscriber = server.subscriber().await;
    let first = Frame::message("x", OpCode::Data(Data::Text), false);
    subscriber.socket().send(Message::Frame(first)).await.unwrap();
    let empty = || Message::Frame(Frame::message("", OpCode::Data(Data::Continue), false));
    'flood: loop {
        for _ in 0..2_000 {
            if subscriber.socket().feed(empty()).await.is_err() {
                break 'flood;
            }
        }
        let _ = subscriber.socket().flush().await;
    }
    assert!(matches!(close_code(&mut subscriber).await, 4102 | 1006));
}
