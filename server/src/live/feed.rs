//! One followed call: its head, its newest frames, its followers.

mod inbox;
mod ring;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use callscope_common::event::EventKind;
use callscope_common::{CallId, Seq};
use futures_util::FutureExt;
use parking_lot::Mutex;
use slab::Slab;
use tokio::task;
use tracing::debug;

use super::connection::{Connection, EndReason, WriteOutcome};
use super::frame::{Bytes, join};
use super::hub::Hub;
use super::probe;
use inbox::Inbox;
use ring::Ring;

/// Most bytes of frames written in one go, after the first frame.
pub(super) const JOINED_BYTES: usize = 32 * 1024;
/// Sockets written before whoever wants to join or leave gets a chance. (In tests after each, so that few followers are enough
/// to get in between.)
const SOCKETS_PER_SLICE: usize = if cfg!(test) { 1 } else { 250 };

/// A followed call.
#[derive(Debug)]
pub struct Feed {
    /// Which call.
    pub call_id: CallId,
    /// Which of the [`workers`](super::workers)'s workers runs it.
    pub(super) worker: usize,
    head: AtomicI64,
    ended: AtomicBool,
    ring: Mutex<Ring>,
    inbox: Mutex<Inbox>,
    members: Mutex<Slab<Member>>,
    /// How many members there are, for whoever must not wait for the list: it is locked while sockets are written.
    size: AtomicUsize,
}

/// A follower: a connection, and which of its subscriptions.
#[derive(Debug)]
struct Member {
    connection: Arc<Connection>,
    subscription: u64,
}

/// An announced event.
#[derive(Debug, Clone)]
pub(super) struct EventFrame {
    pub seq: Seq,
    pub kind: EventKind,
    pub frame: Bytes,
}

/// What a feed is told.
#[derive(Debug, Clone)]
pub(super) enum FeedMessage {
    Event(EventFrame),
    Partial(Bytes),
    /// The log is known to reach this far, and whether the call is over.
    Head(Seq, bool),
    End(EndReason),
}

/// How far the log is said to reach. Believed only when the events at hand do not lead there by themselves: often they are
/// right behind in the inbox.
#[derive(Debug, Default, Clone, Copy)]
struct ReportedHead {
    head: Seq,
    ended: bool,
}

/// One round of a feed over its followers.
#[derive(Debug)]
pub(super) struct FrameBatch {
    /// The head before it.
    pub from: Seq,
    /// The head from now on.
    pub head: Seq,
    /// The frames of all events in between, and partials; `None` where a frame is not at hand.
    pub bytes: Option<Bytes>,
    /// How many events that is.
    pub events: u64,
    /// Whether the call is over at `head`.
    pub ended: bool,
}

impl Feed {
    pub(super) fn new(call_id: CallId, worker: usize) -> Self {
        Self {
            call_id,
            worker,
            head: AtomicI64::new(0),
            ended: AtomicBool::new(false),
            ring: Mutex::default(),
            inbox: Mutex::default(),
            members: Mutex::default(),
            size: AtomicUsize::new(0),
        }
    }

    /// Seq of the newest event this process heard of.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.head.load(Ordering::SeqCst)
    }

    /// Whether the call is over. Read before [`Feed::head`], the head then read holds the end.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    pub(super) fn join(&self, connection: Arc<Connection>, subscription: u64) -> usize {
        let mut members = self.members.lock();
        self.size.fetch_add(1, Ordering::SeqCst);
        members.insert(Member { connection, subscription })
    }

    /// Takes a follower off the list; says whether none is left.
    pub(super) fn leave(&self, member: usize) -> bool {
        let mut members = self.members.lock();
        if members.try_remove(member).is_some() {
            self.size.fetch_sub(1, Ordering::SeqCst);
        }
        members.is_empty()
    }

    /// How many follow. Waits for nobody.
    pub(super) fn size(&self) -> usize {
        self.size.load(Ordering::SeqCst)
    }

    /// The connections that follow.
    #[must_use]
    pub fn followers(&self) -> Vec<uuid::Uuid> {
        self.members.lock().iter().map(|(_, member)| member.connection.connection_id).collect()
    }

    /// The frames after `cursor` that are at hand, joined up to [`JOINED_BYTES`], and the cursor behind them.
    pub(super) fn frames_after(&self, cursor: Seq) -> Option<(Bytes, Seq)> {
        self.ring.lock().after(cursor)
    }

    /// Takes in what it is told and sees to it that it is worked on. Never blocks.
    pub(super) fn enqueue(self: &Arc<Self>, hub: &Hub, items: impl IntoIterator<Item = FeedMessage>) {
        let is_new = {
            let mut inbox = self.inbox.lock();
            for item in items {
                inbox.push(item);
            }
            !std::mem::replace(&mut inbox.is_scheduled, true)
        };
        if is_new {
            hub.schedule(self);
        }
    }

    /// Works on all it was told up to now; says whether there is more already, and another round to be run.
    pub(super) async fn run_once(self: &Arc<Self>, hub: &Hub) -> bool {
        let items = self.inbox.lock().take();
        if AssertUnwindSafe(self.work(hub, items)).catch_unwind().await.is_err() {
            self.recover();
        }
        {
            let mut inbox = self.inbox.lock();
            inbox.is_scheduled = !inbox.items.is_empty();
            if inbox.is_scheduled {
                return true;
            }
        }
        if self.size() == 0 {
            hub.forget_if_unfollowed(self);
        }
        false
    }

    async fn work(self: &Arc<Self>, hub: &Hub, items: VecDeque<FeedMessage>) {
        let mut items = items.into_iter().peekable();
        let mut reported = ReportedHead::default();
        loop {
            if let Some(reason) = self.next_end(&mut items) {
                self.for_all(|member| member.connection.end_subscription(member.subscription, reason));
            } else if let Some(batch) = self.next_batch(&mut items, &mut reported) {
                self.deliver(hub, &batch).await;
            } else if items.peek().is_none() {
                break;
            }
        }
    }

    /// After a panic: has every session look for itself.
    fn recover(&self) {
        tracing::error!(call_id = %self.call_id, "a feed failed; its followers catch up by themselves");
        self.for_all(|member| member.connection.require_catch_up(member.subscription));
    }

    fn next_end(&self, items: &mut std::iter::Peekable<impl Iterator<Item = FeedMessage>>) -> Option<EndReason> {
        match items.next_if(|item| matches!(item, FeedMessage::End(_))) {
            Some(FeedMessage::End(reason)) => Some(reason),
            _ => None,
        }
    }

    /// Takes as many items as make one write, moves the head, and says what followers get.
    fn next_batch(
        &self,
        items: &mut std::iter::Peekable<impl Iterator<Item = FeedMessage>>,
        reported: &mut ReportedHead,
    ) -> Option<FrameBatch> {
        let from = self.head();
        let was_ended = self.ended();
        let mut batch = FrameBatch { from, head: from, bytes: None, events: 0, ended: was_ended };
        let mut frames: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        let mut has_hole = false;
        while let Some(item) = items.next_if(|item| !matches!(item, FeedMessage::End(_)) && bytes < JOINED_BYTES) {
            match item {
                FeedMessage::Event(event) if event.seq > batch.head => {
                    has_hole |= event.seq != batch.head + 1;
                    batch.head = event.seq;
                    batch.events += 1;
                    batch.ended |= event.kind == EventKind::CallCompleted;
                    bytes += event.frame.len();
                    frames.push(event.frame.clone());
                    self.ring.lock().push(event);
                }
                FeedMessage::Partial(frame) => {
                    bytes += frame.len();
                    frames.push(frame);
                }
                FeedMessage::Head(head, ended) => {
                    *reported = ReportedHead { head: reported.head.max(head), ended: reported.ended | ended }
                }
                FeedMessage::Event(_) | FeedMessage::End(_) => {}
            }
        }
        if items.peek().is_none() {
            has_hole |= reported.head > batch.head;
            batch.head = batch.head.max(reported.head);
            batch.ended |= reported.ended;
        }
        // Head before end: who sees the end sees a head that holds it.
        self.head.store(batch.head, Ordering::SeqCst);
        self.ended.store(batch.ended, Ordering::SeqCst);
        if !has_hole && !frames.is_empty() {
            batch.bytes = Some(join(&frames));
        }
        let news = batch.head > from || batch.ended != was_ended || batch.bytes.is_some();
        news.then_some(batch)
    }

    async fn deliver(self: &Arc<Self>, hub: &Hub, batch: &FrameBatch) {
        let (mut direct, mut left, mut removed, mut recipients) = (0_u64, 0_u64, 0_u64, 0_u64);
        let mut next = 0;
        loop {
            {
                let mut members = self.members.lock();
                let end = members.capacity().min(next + SOCKETS_PER_SLICE);
                for at in next..end {
                    let Some(member) = members.get(at) else { continue };
                    recipients += 1;
                    match member.connection.try_write(member.subscription, self, batch) {
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
        if self.call_id != probe::CALL {
            hub.count(direct, left);
        }
        debug!(call_id = %self.call_id, seq = batch.head, events = batch.events, recipients, direct, left, removed, "broadcast");
    }

    fn for_all(&self, act: impl Fn(&Member)) {
        for (_, member) in self.members.lock().iter() {
            act(member);
        }
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

    /// All passes that a sequence of items makes.
    fn batches(feed: &Feed, items: Vec<FeedMessage>) -> Vec<FrameBatch> {
        let mut items = items.into_iter().peekable();
        let mut reported = ReportedHead::default();
        std::iter::from_fn(|| feed.next_batch(&mut items, &mut reported)).collect()
    }

    #[test]
    fn a_head_that_runs_ahead_of_its_events_makes_no_hole() {
        let feed = Feed::new(CallId::nil(), 0);
        let items = vec![FeedMessage::Head(2, false), FeedMessage::Event(event(1)), FeedMessage::Event(event(2))];
        let batches = batches(&feed, items);
        assert_eq!(batches.len(), 1);
        assert_eq!((batches[0].from, batches[0].head, batches[0].bytes.clone()), (0, 2, Some(frames([1, 2]))));
    }

    #[test]
    fn a_head_without_its_events_leaves_them_to_the_sessions() {
        let feed = Feed::new(CallId::nil(), 0);
        let first = batches(&feed, vec![FeedMessage::Event(event(1)), FeedMessage::Head(3, false)]);
        assert_eq!((first[0].head, first[0].bytes.clone()), (3, None));
        let next = batches(&feed, vec![FeedMessage::Event(event(4))]);
        assert_eq!((next[0].from, next[0].head, next[0].bytes.clone()), (3, 4, Some(frames([4]))));
        // The ring must not lead from 1 to 4.
        assert_eq!(feed.frames_after(1), None);
    }
}
