//! What a feed was told and has not worked on.

use std::collections::VecDeque;

use callscope_common::event::EventKind;

use super::FeedMessage;

/// Most announcements that wait for the feed's next round. Beyond that they are dropped for their head alone: the followers read
/// the events from the database.
const INBOX_MESSAGES: usize = if cfg!(test) { 32 } else { 4096 };
/// Most bytes of them.
const INBOX_BYTES: usize = 4 << 20;
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub items: VecDeque<FeedMessage>,
    /// Of the frames among them.
    bytes: usize,
    /// Whether a round is about to run or running.
    pub is_scheduled: bool,
}

impl Inbox {
    pub fn push(&mut self, item: FeedMessage) {
        if self.items.len() >= INBOX_MESSAGES || self.bytes >= INBOX_BYTES {
            self.shrink();
        }
        self.bytes += item.bytes();
        self.items.push_back(item);
    }

    pub fn take(&mut self) -> VecDeque<FeedMessage> {
        self.bytes = 0;
        std::mem::take(&mut self.items)
    }

    /// Replaces what waits by the head it leads to.
    fn shrink(&mut self) {
        let head = self.items.iter().fold((0, false), |(head, ended), item| match item {
            FeedMessage::Event(event) => (head.max(event.seq), ended | (event.kind == EventKind::CallCompleted)),
            FeedMessage::Head(seq, end) => (head.max(*seq), ended | *end),
            FeedMessage::Partial(_) | FeedMessage::End(_) => (head, ended),
        });
        self.items.retain(|item| matches!(item, FeedMessage::End(_)));
        self.bytes = 0;
        self.items.push_front(FeedMessage::Head(head.0, head.1));
    }
}

impl FeedMessage {
    fn bytes(&self) -> usize {
        match self {
            Self::Event(event) => event.frame.len(),
            Self::Partial(frame) => frame.len(),
            Self::Head(..) | Self::End(_) => 0,
        }
    }
}
