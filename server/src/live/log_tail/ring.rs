//! The newest frames of a log, for subscriptions that are a little behind.

use std::collections::VecDeque;

use callscope_common::Seq;

use crate::live::frame::{Bytes, EventFrame, MAX_JOINED_BYTES, join};

/// Most frames in a ring; older ones are read from the database.
const MAX_FRAMES: usize = 128;
/// Most bytes of frames in a ring. The newest frame is kept even if it is longer.
const MAX_BYTES: usize = 256 * 1024;

/// Frames of consecutive events.
#[derive(Debug, Default)]
pub(super) struct Ring {
    events: VecDeque<EventFrame>,
    bytes: usize,
}

impl Ring {
    /// Adds the newest event. If it does not follow the last one, the earlier frames are dropped, so that a ring has no
    /// holes.
    pub fn push(&mut self, event: EventFrame) {
        if self.events.back().is_some_and(|last| last.seq + 1 != event.seq) {
            self.events.clear();
            self.bytes = 0;
        }
        self.bytes += event.frame.len();
        self.events.push_back(event);
        while self.events.len() > MAX_FRAMES || (self.bytes > MAX_BYTES && self.events.len() > 1) {
            self.bytes -= self.events.pop_front().map_or(0, |event| event.frame.len());
        }
    }

    /// The frames after `cursor`, joined up to [`MAX_JOINED_BYTES`], and the seq of the last of them. `None` if the
    /// ring does not have the frame at `cursor + 1`.
    pub fn after(&self, cursor: Seq) -> Option<(Bytes, Seq)> {
        let first = self.events.front()?.seq;
        let skip = usize::try_from(cursor + 1 - first).ok()?;
        let mut frames: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        let mut last = cursor;
        for event in self.events.iter().skip(skip) {
            bytes += event.frame.len();
            if bytes > MAX_JOINED_BYTES && !frames.is_empty() {
                break;
            }
            frames.push(event.frame.clone());
            last = event.seq;
        }
        (!frames.is_empty()).then(|| (join(&frames), last))
    }
}

#[cfg(test)]
mod tests {
    use callscope_common::event::EventKind;

    use super::*;
    use crate::live::frame::text_frame;

    fn event(seq: Seq) -> EventFrame {
        EventFrame { seq, kind: EventKind::Transcription, frame: text_frame(&seq.to_string()) }
    }

    fn ring(seqs: impl IntoIterator<Item = Seq>) -> Ring {
        let mut ring = Ring::default();
        seqs.into_iter().for_each(|seq| ring.push(event(seq)));
        ring
    }

    fn frames(seqs: impl IntoIterator<Item = Seq>) -> Bytes {
        join(&seqs.into_iter().map(|seq| event(seq).frame).collect::<Vec<_>>())
    }

    #[test]
    fn a_ring_gives_the_frames_after_a_cursor_and_none_beyond_a_hole() {
        assert_eq!(ring([1, 2, 3]).after(1), Some((frames([2, 3]), 3)));
        assert_eq!(ring([1, 2, 3]).after(3), None);
        assert_eq!(ring([5, 6]).after(3), None);
        // 3 and 4 were never announced: a subscription at 2 must read them from the database.
        assert_eq!(ring([1, 2, 5, 6]).after(1), None);
        assert_eq!(ring([1, 2, 5, 6]).after(2), None);
        assert_eq!(ring([1, 2, 5, 6]).after(4), Some((frames([5, 6]), 6)));
    }

    #[test]
    fn a_ring_is_bounded() {
        let ring = ring(1..=1_000);
        assert_eq!(ring.events.len(), MAX_FRAMES);
        assert_eq!(ring.bytes, ring.events.iter().map(|event| event.frame.len()).sum::<usize>());
        assert_eq!(ring.after(1_000 - MAX_FRAMES as Seq - 1), None);
        assert!(ring.after(1_000 - MAX_FRAMES as Seq).is_some());
    }
}
