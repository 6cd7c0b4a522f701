//! The fan-out of one followed call: a feed turns notifications into batches of frames and writes them to its
//! followers.

mod inbox;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use callscope_common::event::EventKind;
use callscope_common::{CallId, Seq};
use futures_util::FutureExt;
use parking_lot::Mutex;
use slab::Slab;
use tokio::task;
use tracing::{debug, error};

use super::connection::{Connection, EndReason, WriteOutcome};
use super::frame::{Bytes, EventFrame, FrameBatch, MAX_JOINED_BYTES, join};
use super::log_tail::LogTail;
use inbox::Inbox;

/// Bounds of the feeds of a hub.
#[derive(Debug, Clone, Copy)]
pub struct FeedLimits {
    /// Most followers of one feed. A call with more followers has several feeds, up to one for each worker.
    pub followers: usize,
    /// Sockets written under one lock of the members. Between two slices, connections can join and leave.
    pub sockets_per_slice: usize,
    /// Most messages in an inbox.
    pub inbox_messages: usize,
}

/// Writing to 2048 sockets takes a few milliseconds. For a smaller part of a call's followers, waking another worker
/// costs more than its help gains.
impl Default for FeedLimits {
    fn default() -> Self {
        Self { followers: 2048, sockets_per_slice: 250, inbox_messages: 4096 }
    }
}

/// The fan-out of a followed call, or of a part of its followers if it has many.
#[derive(Debug)]
pub(super) struct Feed {
    pub log_tail: Arc<LogTail>,
    /// Index of the worker that runs the feed.
    pub worker: usize,
    sockets_per_slice: usize,
    inbox: Mutex<Inbox>,
    members: Mutex<Slab<Member>>,
    /// The number of members, for readers that must not wait for the lock, which is held while sockets are written.
    size: AtomicUsize,
}

#[derive(Debug)]
struct Member {
    connection: Arc<Connection>,
    /// Id of one of the connection's subscriptions.
    subscription: u64,
}

/// What a feed has to tell its followers.
#[derive(Debug, Clone)]
pub(super) enum FeedMessage {
    Event(EventFrame),
    /// A partial turn.
    Partial(Bytes),
    /// The seq that the log has reached, and whether the call is over there.
    Head(Seq, bool),
    End(EndReason),
}

/// The highest head that messages have reported. It is applied after all messages, because the events that lead to it
/// are often right behind it in the inbox.
#[derive(Debug, Default, Clone, Copy)]
struct ReportedHead {
    head: Seq,
    ended: bool,
}

/// Outcome of one run of a feed.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct RunOutcome {
    /// Batches that were written straight into a socket, each counted once per follower.
    pub direct: u64,
    /// Batches that were left to a session, each counted once per follower.
    pub left: u64,
    /// Whether messages arrived meanwhile, so that the feed has to run again.
    pub has_more: bool,
    /// Whether the feed has no followers any more.
    pub is_unfollowed: bool,
}

impl Feed {
    pub fn new(call_id: CallId, worker: usize, limits: FeedLimits) -> Self {
        Self {
            log_tail: Arc::new(LogTail::new(call_id)),
            worker,
            sockets_per_slice: limits.sockets_per_slice,
            inbox: Mutex::new(Inbox::new(limits.inbox_messages)),
            members: Mutex::default(),
            size: AtomicUsize::new(0),
        }
    }

    /// Adds a follower; returns its member id.
    pub fn join(&self, connection: Arc<Connection>, subscription: u64) -> usize {
        let mut members = self.members.lock();
        self.size.fetch_add(1, Ordering::SeqCst);
        members.insert(Member { connection, subscription })
    }

    /// Removes a follower; returns whether none is left.
    pub fn leave(&self, member_id: usize) -> bool {
        let mut members = self.members.lock();
        // The feed itself has removed it if it wrote the end of the call.
        if members.try_remove(member_id).is_some() {
            self.size.fetch_sub(1, Ordering::SeqCst);
        }
        members.is_empty()
    }

    /// The number of followers. Never waits for the lock of the members.
    pub fn size(&self) -> usize {
        self.size.load(Ordering::SeqCst)
    }

    /// The ids of the connections that follow.
    pub fn followers(&self) -> Vec<uuid::Uuid> {
        self.members.lock().iter().map(|(_, member)| member.connection.connection_id).collect()
    }

    /// Queues messages and never blocks. Returns true if the feed is not scheduled yet, so that the caller has to do
    /// it.
    #[must_use]
    pub fn enqueue(&self, messages: impl IntoIterator<Item = FeedMessage>) -> bool {
        let mut inbox = self.inbox.lock();
        for message in messages {
            inbox.push(message);
        }
        !std::mem::replace(&mut inbox.is_scheduled, true)
    }

    /// Processes all messages that are queued now.
    pub async fn run_once(&self) -> RunOutcome {
        let messages = self.inbox.lock().take();
        let mut outcome = RunOutcome::default();
        if AssertUnwindSafe(self.process(messages, &mut outcome)).catch_unwind().await.is_err() {
            error!(call_id = %self.log_tail.call_id, "a feed panicked; its followers catch up in their sessions");
            self.for_each_member(|member| member.connection.require_catch_up(member.subscription));
        }
        let mut inbox = self.inbox.lock();
        inbox.is_scheduled = !inbox.messages.is_empty();
        outcome.has_more = inbox.is_scheduled;
        outcome.is_unfollowed = !outcome.has_more && self.size() == 0;
        outcome
    }

    async fn process(&self, messages: VecDeque<FeedMessage>, outcome: &mut RunOutcome) {
        let mut messages = messages.into_iter().peekable();
        let mut reported = ReportedHead::default();
        loop {
            if let Some(reason) = next_end(&mut messages) {
                self.for_each_member(|member| member.connection.notify_end(member.subscription, reason));
            } else if let Some(batch) = self.next_batch(&mut messages, &mut reported) {
                self.write_to_members(&batch, outcome).await;
            } else if messages.peek().is_none() {
                break;
            }
        }
    }

    /// Takes the messages of one write from the queue, updates the log tail, and returns the batch for the followers;
    /// `None` if there is nothing new for them.
    fn next_batch(
        &self,
        messages: &mut std::iter::Peekable<impl Iterator<Item = FeedMessage>>,
        reported: &mut ReportedHead,
    ) -> Option<FrameBatch> {
        let from = self.log_tail.head();
        let was_ended = self.log_tail.is_ended();
        let mut batch = FrameBatch { from, head: from, bytes: None, events: 0, ended: was_ended };
        let mut frames: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        let mut has_hole = false;
        while let Some(message) =
            messages.next_if(|message| !matches!(message, FeedMessage::End(_)) && bytes < MAX_JOINED_BYTES)
        {
            match message {
                FeedMessage::Event(event) if event.seq > batch.head => {
                    has_hole |= event.seq != batch.head + 1;
                    batch.head = event.seq;
                    batch.events += 1;
                    batch.ended |= event.kind == EventKind::CallCompleted;
                    bytes += event.frame.len();
                    frames.push(event.frame.clone());
                    self.log_tail.push(event);
                }
                FeedMessage::Partial(frame) => {
                    bytes += frame.len();
                    frames.push(frame);
                }
                FeedMessage::Head(head, ended) => {
                    *reported = ReportedHead { head: reported.head.max(head), ended: reported.ended | ended };
                }
                FeedMessage::Event(_) | FeedMessage::End(_) => {}
            }
        }
        if messages.peek().is_none() {
            has_hole |= reported.head > batch.head;
            batch.head = batch.head.max(reported.head);
            batch.ended |= reported.ended;
        }
        self.log_tail.set_head(batch.head, batch.ended);
        if !has_hole && !frames.is_empty() {
            batch.bytes = Some(join(&frames));
        }
        let is_new = batch.head > from || batch.ended != was_ended || batch.bytes.is_some();
        is_new.then_some(batch)
    }

    async fn write_to_members(&self, batch: &FrameBatch, outcome: &mut RunOutcome) {
        let (mut direct, mut left, mut removed, mut recipients) = (0_u64, 0_u64, 0_u64, 0_u64);
        let mut next = 0;
        loop {
            {
                let mut members = self.members.lock();
                let end = members.capacity().min(next + self.sockets_per_slice);
                for at in next..end {
                    let Some(member) = members.get(at) else { continue };
                    recipients += 1;
                    match member.connection.try_write(member.subscription, &self.log_tail, batch) {
                        WriteOutcome::Written => direct += 1,
                        WriteOutcome::LeftToSession => left += 1,
                        WriteOutcome::Skipped => {}
                        WriteOutcome::Ended => {
                            direct += 1;
                            removed += 1;
                            members.remove(at);
                            self.size.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                }
                next = end;
                if next >= members.capacity() {
                    break;
                }
            }
            task::yield_now().await;
        }
        outcome.direct += direct;
        outcome.left += left;
        debug!(
            call_id = %self.log_tail.call_id, seq = batch.head, events = batch.events, recipients, direct, left, removed,
            "broadcast"
        );
    }

    fn for_each_member(&self, act: impl Fn(&Member)) {
        for (_, member) in self.members.lock().iter() {
            act(member);
        }
    }
}

fn next_end(messages: &mut std::iter::Peekable<impl Iterator<Item = FeedMessage>>) -> Option<EndReason> {
    match messages.next_if(|message| matches!(message, FeedMessage::End(_))) {
        Some(FeedMessage::End(reason)) => Some(reason),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::frame::text_frame;

    fn event(seq: Seq) -> EventFrame {
        EventFrame { seq, kind: EventKind::Transcription, frame: text_frame(&seq.to_string()) }
    }

    fn frames(seqs: impl IntoIterator<Item = Seq>) -> Bytes {
        join(&seqs.into_iter().map(|seq| event(seq).frame).collect::<Vec<_>>())
    }

    /// All batches that a feed makes of `messages`.
    fn batches(feed: &Feed, messages: Vec<FeedMessage>) -> Vec<FrameBatch> {
        let mut messages = messages.into_iter().peekable();
        let mut reported = ReportedHead::default();
        std::iter::from_fn(|| feed.next_batch(&mut messages, &mut reported)).collect()
    }

    #[test]
    fn a_head_that_runs_ahead_of_its_events_makes_no_hole() {
        let feed = Feed::new(CallId::nil(), 0, FeedLimits::default());
        let messages = vec![FeedMessage::Head(2, false), FeedMessage::Event(event(1)), FeedMessage::Event(event(2))];
        let batches = batches(&feed, messages);
        assert_eq!(batches.len(), 1);
        assert_eq!((batches[0].from, batches[0].head, batches[0].bytes.clone()), (0, 2, Some(frames([1, 2]))));
    }

    #[test]
    fn a_head_without_its_events_leaves_them_to_the_sessions() {
        let feed = Feed::new(CallId::nil(), 0, FeedLimits::default());
        let first = batches(&feed, vec![FeedMessage::Event(event(1)), FeedMessage::Head(3, false)]);
        assert_eq!((first[0].head, first[0].bytes.clone()), (3, None));
        let next = batches(&feed, vec![FeedMessage::Event(event(4))]);
        assert_eq!((next[0].from, next[0].head, next[0].bytes.clone()), (3, 4, Some(frames([4]))));
        // 2 and 3 are only in the database, so the ring has nothing for a cursor at 1.
        assert_eq!(feed.log_tail.frames_after(1), None);
    }
}
