//! Encoded text frames, and the batches that feeds write.

use std::task::Poll;

pub(super) use bytes::Bytes;
use bytes::{BufMut, BytesMut};
use callscope_common::Seq;
use callscope_common::event::EventKind;
use tokio::io::ReadBuf;

/// Most bytes of frames that are joined into one write. A longer frame is written alone.
pub(super) const MAX_JOINED_BYTES: usize = 32 * 1024;

/// An event that is ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct EventFrame {
    pub seq: Seq,
    pub kind: EventKind,
    pub frame: Bytes,
}

/// What a feed writes to each of its followers in one write.
#[derive(Debug)]
pub(super) struct FrameBatch {
    /// The head before the batch.
    pub from: Seq,
    /// The head from now on.
    pub head: Seq,
    /// The frames of all events in between, and partial turns. `None` if the feed lacks a frame, so that the sessions
    /// have to read it, or if there are no frames.
    pub bytes: Option<Bytes>,
    /// How many events the batch has.
    pub events: u64,
    /// Whether the call is over at `head`.
    pub ended: bool,
}

/// The WebSocket frame (RFC 6455 section 5.2: FIN, text, unmasked) that carries `text`.
///
/// A server's frames are not masked, so a frame is encoded once and all receivers share its bytes.
pub(super) fn text_frame(text: &str) -> Bytes {
    let len = text.len();
    let mut frame = BytesMut::with_capacity(len + 10);
    frame.put_u8(0x81);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..126), _) => frame.put_u8(len),
        (_, Ok(len)) => {
            frame.put_u8(126);
            frame.put_u16(len);
        }
        _ => {
            frame.put_u8(127);
            frame.put_u64(len as u64);
        }
    }
    frame.put_slice(text.as_bytes());
    frame.freeze()
}

/// Concatenates frames. A single frame is not copied.
pub(super) fn join(frames: &[Bytes]) -> Bytes {
    if let [one] = frames {
        return one.clone();
    }
    let mut joined = BytesMut::with_capacity(frames.iter().map(Bytes::len).sum());
    for frame in frames {
        joined.put_slice(frame);
    }
    joined.freeze()
}

/// Adapts a poll function that fills a [`ReadBuf`] to a plain `buffer`; returns the number of bytes read.
pub(super) fn read_into<E>(
    buffer: &mut [u8],
    read: impl FnOnce(&mut ReadBuf<'_>) -> Poll<Result<(), E>>,
) -> Poll<Result<usize, E>> {
    let mut buffer = ReadBuf::new(buffer);
    read(&mut buffer).map_ok(|()| buffer.filled().len())
}

#[cfg(test)]
mod tests {
    use tungstenite::protocol::Role;
    use tungstenite::{Message, WebSocket};

    use super::*;

    #[test]
    fn frames_of_every_length_form_read_back() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
            let text = "x".repeat(len);
            let bytes = std::io::Cursor::new(text_frame(&text).to_vec());
            let mut client = WebSocket::from_raw_socket(bytes, Role::Client, None);
            assert_eq!(client.read().expect("a frame"), Message::text(text));
        }
    }

    #[test]
    fn joined_frames_are_their_concatenation() {
        let frames = [text_frame("a"), text_frame("bc")];
        assert_eq!(join(&frames), [&frames[0][..], &frames[1][..]].concat());
    }
}
