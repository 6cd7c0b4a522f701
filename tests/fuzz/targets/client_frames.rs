//! Bytes that a client sends on the WebSocket: they are decoded into frames, and text frames are parsed as requests.
//!
//! The first byte of the input is the size of the pieces in which the rest arrives.

#![no_main]

use callscope_common::protocol::{ClientMessage, Pong, ServerMessage};
use callscope_server::testing::frames::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((piece_size, bytes)) = input.split_first() else { return };
    let whole = decode(bytes, usize::MAX);
    assert_eq!(whole, decode(bytes, usize::from(*piece_size) % 32 + 1), "the result depends on the pieces");
    for text in &whole.texts {
        parse_request(text);
    }
    // The fuzzer cannot see JSON through the mask of a frame, so the bytes are parsed as a request too.
    if let Ok(text) = std::str::from_utf8(bytes) {
        parse_request(text);
    }
});

fn parse_request(text: &str) {
    match ClientMessage::parse(text) {
        Ok(ClientMessage::Ping(ping)) => {
            let value = ping.get().to_owned();
            let pong = serde_json::to_string(&ServerMessage::Pong(Pong { ping })).expect("a pong is JSON");
            assert_eq!(pong, format!(r#"{{"type":"pong","ping":{value}}}"#));
        }
        Ok(ClientMessage::Subscribe(subscribe)) => assert!(!subscribe.identifier.as_str().is_empty()),
        Ok(ClientMessage::Unsubscribe(identifier)) => assert!(!identifier.as_str().is_empty()),
        Ok(ClientMessage::FollowDeliveries(_) | ClientMessage::UnfollowDeliveries) => {}
        Err(error) => assert!(!error.message.is_empty()),
    }
}
