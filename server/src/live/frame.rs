//! A server's text frames, as bytes on the wire.

use tokio::io::ReadBuf;

pub(super) use bytes::Bytes;
use bytes::{BufMut, BytesMut};

/// The WebSocket frame (RFC 6455 section 5.2: FIN, text, unmasked) that carries `text`.
///
/// Encoded once and registry by all receivers, since a server's frames are not masked.
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

/// `frames` end to end; one alone is not copied.
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

/// Reads into `buffer` through a poll function that fills a [`ReadBuf`].
pub(super) fn read_into<E>(
    buffer: &mut [u8],
    read: impl FnOnce(&mut ReadBuf<'_>) -> std::task::Poll<Result<(), E>>,
) -> std::task::Poll<Result<usize, E>> {
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
