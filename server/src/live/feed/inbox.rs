//! Messages that a feed has not processed yet.

use std::collections::VecDeque;

use callscope_common::event::EventKind;

use super::FeedMessage;

/// Most bytes of frames in an inbox.
const MAX_BYTES: usize = 4 << 20;

/// A bounded queue. When it is full, its events are replaced by the head that they lead to, and the followers read them
/// from the database.
#[derive(Debug)]
pub(super) struct Inbox {
    pub messages: VecDeque<FeedMessage>,
    max_messages: usize,
    /// Bytes of the frames in `messages`.
    bytes: usize,
    /// Whether the feed is queued at its worker or running.
    pub is_scheduled: bool,
}

impl Inbox {
    pub fn new(max_messages: usize) -> Self {
        Self { messages: VecDeque::new(), max_messages, bytes: 0, is_scheduled: false }
    }

    pub fn push(&mut self, message: FeedMessage) {
        if self.messages.len() >= self.max_messages || self.bytes >= MAX_BYTES {
            self.replace_events_by_head();
        }
        self.bytes += message.bytes();
        self.messages.push_back(message);
    }

    pub fn take(&mut self) -> VecDeque<FeedMessage> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }

    fn replace_events_by_head(&mut self) {
        let head = self.messages.iter().fold((0, false), |(head, ended), message| match message {
            FeedMessage::Event(event) => (head.max(event.seq), ended | (event.kind == EventKind::CallCompleted)),
            FeedMessage::Head(seq, end) => (head.max(*seq), ended | *end),
            FeedMessage::Partial(_) | FeedMessage::End(_) => (head, ended),
        });
        self.messages.retain(|message| matches!(message, FeedMessage::End(_)));
        self.bytes = 0;
        self.messages.push_front(FeedMessage::Head(head.0, head.1));
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
