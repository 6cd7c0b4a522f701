//! Sends subscriptions the events they are owed: from the log's tail if it has them, else from the database.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Instant;

use callscope_common::event::EventKind;
use callscope_common::{CallId, Seq};
use tracing::debug;

use super::{MAX_WRITES_IN_A_ROW, Reader, Session, in_time};
use crate::live::connection::EndReason;
use crate::live::frame::{MAX_JOINED_BYTES, join, text_frame};
use crate::live::log_tail::LogTail;
use crate::store::StoreError;
use crate::store::events::Page;

impl Session {
    /// Sends to every subscription that is not caught up, until the socket is full or all of them are.
    pub(super) async fn catch_up(&mut self) -> std::io::Result<()> {
        let mut rounds = 0;
        loop {
            let flushed = poll_fn(|cx| Poll::Ready(self.connection.state.lock().poll_flush(cx))).await;
            match flushed {
                Poll::Ready(result) => result?,
                Poll::Pending => return Ok(()),
            }
            let Some((id, tail, cursor)) = self.next_owed() else { return Ok(()) };
            rounds += 1;
            if rounds > MAX_WRITES_IN_A_ROW {
                // Requests, deadlines and signals are waiting too.
                self.has_more = true;
                return Ok(());
            }
            let found = match tail.frames_after(cursor) {
                Some(found) => Ok(Some(found)),
                None => Box::pin(self.read_owed(&tail, cursor)).await,
            };
            let failed = match found {
                Ok(Some((bytes, last))) => {
                    self.push_owed(id, cursor, bytes, last);
                    continue;
                }
                Ok(None) => match Box::pin(self.end_reason_of(tail.call_id)).await {
                    Ok(Some(reason)) => {
                        self.connection.end_subscription(id, reason);
                        return Ok(());
                    }
                    // The event was announced and cannot be read: try again.
                    Ok(None) => StoreError::Damaged("log: an announced event is missing"),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            self.storage_failed(Reader::Subscription(id), &failed);
            // A failed read may have taken seconds, so everything else of the connection comes first.
            self.has_more = true;
            return Ok(());
        }
    }

    /// Queues events that a subscription is owed, unless its cursor has moved meanwhile.
    fn push_owed(&mut self, id: u64, cursor: Seq, bytes: bytes::Bytes, last: Seq) {
        {
            let mut state = self.connection.state.lock();
            if let Some(s) = state.subscriptions.iter_mut().find(|s| s.id == id && s.cursor == cursor) {
                s.cursor = last;
                self.connection.sent.fetch_add(u64::try_from(last - cursor).unwrap_or(0), Ordering::Relaxed);
                state.out.push_back(bytes);
            }
        }
        self.read_retries.succeeded(Reader::Subscription(id));
    }

    /// Marks subscriptions that are owed nothing as caught up, or ends them; returns one that is owed something.
    fn next_owed(&mut self) -> Option<(u64, Arc<LogTail>, Seq)> {
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
                // In this order: a head that is read after the end includes the end.
                let is_over = s.tail.is_ended();
                // The confirmed head may be ahead of the tail's: the subscription must not end before it.
                if s.cursor < s.tail.head().max(s.confirmed) {
                    owed.push((s.id, Arc::clone(&s.tail), s.cursor));
                } else if is_over {
                    ended.push((Arc::clone(&s.tail), s.member));
                    read_retries.succeeded(reader);
                    return false;
                } else {
                    // An event that could not be read before is not owed any more.
                    read_retries.succeeded(reader);
                    s.caught_up = true;
                }
                true
            });
        }
        for (tail, member) in ended {
            self.hub.leave(&tail, member);
        }
        // Round robin, so that a subscription that cannot be read does not delay another.
        self.round = self.round.wrapping_add(1);
        if owed.is_empty() { None } else { Some(owed.swap_remove(self.round as usize % owed.len())) }
    }

    /// Reads the frames after `cursor` from the database. `None` if the log has none.
    async fn read_owed(&mut self, tail: &Arc<LogTail>, cursor: Seq) -> Result<Option<(bytes::Bytes, Seq)>, StoreError> {
        let page = Page { rows: self.page.into(), bytes: MAX_JOINED_BYTES };
        let events = in_time(self.store.events(tail.call_id, cursor, page)).await?;
        let mut frames = Vec::with_capacity(events.len());
        let (mut bytes, mut last, mut has_end) = (0, cursor, false);
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
            // The feed may have learned of this head without its events, and so not know that the call is over.
            has_end |= event.kind == EventKind::CallCompleted;
        }
        if frames.is_empty() {
            return Ok(None);
        }
        if has_end {
            self.hub.advance_head(tail, last, true);
        }
        let average = (bytes / frames.len()).max(1);
        self.page = u16::try_from(MAX_JOINED_BYTES / average).unwrap_or(u16::MAX).clamp(1, 512);
        Ok(Some((join(&frames), last)))
    }

    /// Returns why a log holds less than was announced: the call was merged or deleted.
    async fn end_reason_of(&self, call_id: CallId) -> Result<Option<EndReason>, StoreError> {
        Ok(match in_time(self.store.heads(&[call_id])).await?.first() {
            None => Some(EndReason::Deleted),
            Some(head) => head.merged_into.map(EndReason::Merged),
        })
    }

    pub(super) fn storage_failed(&mut self, reader: Reader, error: &StoreError) {
        debug!(connection_id = %self.connection.connection_id, %error, ?reader, "cannot read what is owed");
        self.read_retries.failed(reader, Instant::now());
    }
}
