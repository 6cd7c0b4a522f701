//! The newest part of a followed call's log, as this process knows it: the head, whether the call is over, and the
//! newest frames.

mod ring;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use callscope_common::{CallId, Seq};
use parking_lot::Mutex;

use super::frame::{Bytes, EventFrame};
use ring::Ring;

/// The newest part of one call's log. A feed writes it, and the sessions of the feed's followers read it.
#[derive(Debug)]
pub(super) struct LogTail {
    pub call_id: CallId,
    head: AtomicI64,
    is_ended: AtomicBool,
    ring: Mutex<Ring>,
}

impl LogTail {
    pub fn new(call_id: CallId) -> Self {
        Self { call_id, head: AtomicI64::new(0), is_ended: AtomicBool::new(false), ring: Mutex::default() }
    }

    /// Seq of the newest event that this process has heard of.
    pub fn head(&self) -> Seq {
        self.head.load(Ordering::SeqCst)
    }

    /// Whether the call is over. A head that is read after this returned true includes the end.
    pub fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::SeqCst)
    }

    /// Stores the head first and the end second, so that a reader who sees the end sees a head that includes it.
    pub fn set_head(&self, head: Seq, is_ended: bool) {
        self.head.store(head, Ordering::SeqCst);
        self.is_ended.store(is_ended, Ordering::SeqCst);
    }

    /// Adds the newest event.
    pub fn push(&self, event: EventFrame) {
        self.ring.lock().push(event);
    }

    /// The frames after `cursor`, joined up to [`MAX_JOINED_BYTES`](super::frame::MAX_JOINED_BYTES), and the seq of the
    /// last of them. `None` if the next frame is only in the database.
    pub fn frames_after(&self, cursor: Seq) -> Option<(Bytes, Seq)> {
        self.ring.lock().after(cursor)
    }
}
