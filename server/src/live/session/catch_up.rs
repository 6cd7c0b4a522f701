//! Sends subscriptions the events they are owed: from the log tail if it has their frames, else from the database.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Instant;

use callscope_common::event::EventKind;
use callscope_common::{CallId, Seq};
use tracing::debug;

use super::{MAX_CONSECUTIVE_WRITES, Reader, Session, in_time};
use crate::live::connection::EndReason;
use crate::live::frame::{MAX_JOINED_BYTES, join, text_frame};
use crate::live::log_tail::LogTail;
use crate::store::StoreError;
use crate::store::events::Page;

impl Session {
    /// Sends events to the subscriptions that are not caught up, until all are caught up or the socket is full.
    pub(super) async fn catch_up(&mut self) -> std::io::Result<()> {
        let mut writes = 0;
        loop {
            let flushed = poll_fn(|cx| Poll::Ready(self.connection.state.lock().poll_flush(cx))).await;
            match flushed {
                Poll::Ready(result) => result?,
                Poll::Pending => return Ok(()),
            }
            let Some((id, log_tail, cursor)) = self.settle_and_pick_owed() else { return Ok(()) };
            writes += 1;
            if writes > MAX_CONSECUTIVE_WRITES {
                // Requests, deadlines and signals wait meanwhile.
                self.has_more = true;
                return Ok(());
            }
            let found = match log_tail.frames_after(cursor) {
                Some(found) => Ok(Some(found)),
                None => Box::pin(self.read_frames(&log_tail, cursor)).await,
            };
            let error = match found {
                Ok(Some((bytes, last))) => {
                    self.queue_frames(id, cursor, bytes, last);
                    continue;
                }
                Ok(None) => match Box::pin(self.end_reason_of(log_tail.call_id)).await {
                    Ok(Some(reason)) => {
                        self.connection.notify_end(id, reason);
                        return Ok(());
                    }
                    // The event was announced, so a later read has to find it.
                    Ok(None) => StoreError::Damaged("log: an announced event is missing"),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            self.record_failed_read(Reader::Subscription(id), &error);
            // The read may have taken seconds, so requests, deadlines and signals come first.
            self.has_more = true;
            return Ok(());
        }
    }

    /// Queues the frames after `cursor`, unless the subscription's cursor has moved meanwhile.
    fn queue_frames(&mut self, id: u64, cursor: Seq, bytes: bytes::Bytes, last: Seq) {
        {
            let mut state = self.connection.state.lock();
            if let Some(s) = state.subscriptions.iter_mut().find(|s| s.id == id && s.cursor == cursor) {
                s.cursor = last;
                self.connection.sent.fetch_add(u64::try_from(last - cursor).unwrap_or(0), Ordering::Relaxed);
                state.out.push_back(bytes);
            }
        }
        self.read_retries.clear(Reader::Subscription(id));
    }

    /// Settles every subscription that is owed nothing: marks it as caught up, or ends it if its call is over. Returns
    /// a subscription that is owed events.
    fn settle_and_pick_owed(&mut self) -> Option<(u64, Arc<LogTail>, Seq)> {
        let mut ended = Vec::new();
        let mut owed = Vec::new();
        let now = Instant::now();
        {
            let read_retries = &mut self.read_retries;
            let mut state = self.connection.state.lock();
            state.subscriptions.retain_mut(|s| {
                if s.caught_up || s.end_reason.is_some() {
                    return true;
                }
                let reader = Reader::Subscription(s.id);
                if !read_retries.may_read(reader, now) {
                    return true;
                }
                // Before the head, because a head that is read after the end includes the end.
                let is_over = s.log_tail.is_ended();
                // The confirmed head may be ahead of the log tail's, and the subscription must not end before it.
                if s.cursor < s.log_tail.head().max(s.confirmed_head) {
                    owed.push((s.id, Arc::clone(&s.log_tail), s.cursor));
                } else if is_over {
                    ended.push((Arc::clone(&s.log_tail), s.feed_member_id));
                    read_retries.clear(reader);
                    return false;
                } else {
                    // An earlier read may have failed for events that are not owed any more.
                    read_retries.clear(reader);
                    s.caught_up = true;
                }
                true
            });
        }
        for (log_tail, feed_member_id) in ended {
            self.hub.leave(&log_tail, feed_member_id);
        }
        // In turn, so that a subscription whose log cannot be read does not delay the others.
        self.round_robin = self.round_robin.wrapping_add(1);
        if owed.is_empty() { None } else { Some(owed.swap_remove(self.round_robin as usize % owed.len())) }
    }

    /// Reads the frames after `cursor` from the database. `None` if the log has none.
    async fn read_frames(
        &mut self,
        log_tail: &Arc<LogTail>,
        cursor: Seq,
    ) -> Result<Option<(bytes::Bytes, Seq)>, StoreError> {
        let page = Page { rows: self.events_per_read.into(), bytes: MAX_JOINED_BYTES };
        let events = in_time(self.store.events(log_tail.call_id, cursor, page)).await?;
        let mut frames = Vec::with_capacity(events.len());
        let (mut bytes, mut last, mut is_end_read) = (0, cursor, false);
        for event in &events {
            if event.seq != last + 1 {
                return Err(StoreError::Damaged("log: an event is missing"));
            }
            bytes += event.frame.len();
            if bytes > MAX_JOINED_BYTES && !frames.is_empty() {
                break;
            }
            frames.push(text_frame(&event.frame));
            last = event.seq;
            is_end_read |= event.kind == EventKind::CallCompleted;
        }
        if frames.is_empty() {
            return Ok(None);
        }
        if is_end_read {
            // A feed that was told only of the head does not know that the call is over.
            self.hub.advance_head(log_tail, last, true);
        }
        let average_bytes = (bytes / frames.len()).max(1);
        self.events_per_read = u16::try_from(MAX_JOINED_BYTES / average_bytes).unwrap_or(u16::MAX).clamp(1, 512);
        Ok(Some((join(&frames), last)))
    }

    /// Returns why announced events are not in a log: its call was merged or deleted. `None` if it was neither.
    async fn end_reason_of(&self, call_id: CallId) -> Result<Option<EndReason>, StoreError> {
        Ok(match in_time(self.store.heads(&[call_id])).await?.first() {
            None => Some(EndReason::Deleted),
            Some(head) => head.merged_into.map(EndReason::Merged),
        })
    }

    pub(super) fn record_failed_read(&mut self, reader: Reader, error: &StoreError) {
        debug!(connection_id = %self.connection.connection_id, %error, ?reader, "cannot read what is owed");
        self.read_retries.record_failure(reader, Instant::now());
    }
}
