//! What a client may send on the WebSocket: bytes become frames of the session, and text frames become requests.
//!
//! The first byte says in which pieces the network brings the rest.

#![no_main]

use callscope_common::protocol::{ClientMessage, Pong, ServerMessage};
use callscope_server::testing::frames::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((piece, bytes)) = input.split_first() else { return };
    let whole = decode(bytes, usize::MAX);
    assert_eq!(whole, decode(bytes, usize::from(*piece) % 32 + 1), "pieces make a difference");
    for text in &whole.texts {
        read(text);
    }
    // Masks hide JSON from the fuzzer, so it also tries the text alone.
    if let Ok(text) = std::str::from_utf8(bytes) {
        read(text);
    }
});

fn read(text: &str) {
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
