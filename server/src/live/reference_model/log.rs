//! The model of the committed logs, as the log writer reported them. Clients compare their messages with it.

use std::collections::HashMap;

use callscope_common::event::EventKind;
use callscope_common::{CallId, Cursor, Seq};

use callscope_common::protocol::{Subscribe, SubscribeFrom};

use crate::live::connection::EndReason;
use crate::log::Notification;

/// One call record. Its events stay here when it is merged or deleted.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub events: Vec<(EventKind, String)>,
    pub end_reason: Option<EndReason>,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    pub records: HashMap<CallId, Record>,
    /// The record that a name leads to, and the step in which the name was created.
    names: HashMap<String, (CallId, usize)>,
    /// The event of each frame. No two events have the same frame.
    owners: HashMap<String, (CallId, Seq)>,
    /// Every cursor that ever existed, by record, in the order of the log.
    cursors: Vec<(CallId, Vec<String>)>,
    /// Number of records that were merged or deleted.
    pub ended_records: usize,
}

impl Record {
    pub fn head(&self) -> Seq {
        Seq::try_from(self.events.len()).expect("a seq")
    }

    pub fn is_ended(&self) -> bool {
        self.end_after(0).is_some()
    }

    /// The first end of the call after `seq`.
    pub fn end_after(&self, seq: Seq) -> Option<Seq> {
        (1..).zip(&self.events).find(|(at, (kind, _))| *at > seq && *kind == EventKind::CallCompleted).map(|(at, _)| at)
    }
}

impl Log {
    pub fn create(&mut self, call_id: CallId, names: &[String], step: usize) {
        self.records.insert(call_id, Record::default());
        self.cursors.push((call_id, vec![Cursor::start(call_id).to_string()]));
        self.names.extend(names.iter().map(|name| (name.clone(), (call_id, step))));
    }

    pub fn named(&self, name: &str) -> Option<CallId> {
        self.names.get(name).map(|(call_id, _)| *call_id)
    }

    /// The record that has absorbed this one, or this one itself; `None` if it was deleted.
    pub fn survivor(&self, call_id: CallId) -> Option<CallId> {
        match self.records[&call_id].end_reason {
            None => Some(call_id),
            Some(EndReason::Merged(into)) => self.survivor(into),
            Some(EndReason::Deleted) => None,
        }
    }

    /// Whether the name has led to a call since before `step`.
    pub fn was_known(&self, name: &str, step: usize) -> bool {
        self.names.get(name).is_some_and(|(_, since)| *since < step)
    }

    /// Whether the cursor of a request may fit the log that its name leads to. Returns true if that depends on when the
    /// server read the request.
    pub fn may_fit(&self, request: &Subscribe) -> bool {
        let name = request.identifier.as_str();
        let Some(record) = self.named(name).map(|call_id| (call_id, &self.records[&call_id])) else { return false };
        let (call_id, record) = record;
        match &request.from {
            SubscribeFrom::Behind(cursor) => self.seq_of(call_id, cursor).is_some() && record.end_reason.is_none(),
            // Refused if it was beyond the head, which may have grown since.
            SubscribeFrom::After(after) if request.call_id.is_none() => *after == 0,
            _ => request.call_id.is_none_or(|asked| asked == call_id),
        }
    }

    /// Picks one of the cursors that ever existed.
    pub fn pick_cursor(&self, record: usize, at: usize) -> Option<String> {
        let (_, cursors) = self.cursors.get(record % self.cursors.len().max(1))?;
        cursors.get(at % cursors.len()).cloned()
    }

    /// The seq of a cursor in a record's current log; `None` if the cursor belongs to another record, or to an event
    /// that is gone.
    pub fn seq_of(&self, call_id: CallId, cursor: &str) -> Option<Seq> {
        let cursor_of = |frame: &str| Cursor::of_message(frame).map(str::to_owned);
        let record = self.records.get(&call_id)?;
        if cursor == Cursor::start(call_id).to_string() {
            return Some(0);
        }
        (1..)
            .zip(&record.events)
            .find(|(_, (_, frame))| cursor_of(frame).as_deref() == Some(cursor))
            .map(|(seq, _)| seq)
    }

    /// Removes the events after `head` from a record.
    pub fn truncate(&mut self, call_id: CallId, head: Seq) {
        let record = self.records.get_mut(&call_id).expect("a record");
        for (_, frame) in record.events.drain(usize::try_from(head).expect("a seq")..) {
            self.owners.remove(&frame);
        }
    }

    pub fn owner(&self, frame: &str) -> Option<(CallId, Seq)> {
        self.owners.get(frame).copied()
    }

    /// Applies a committed change.
    pub fn apply(&mut self, notification: &Notification) {
        match notification {
            Notification::EventsAppended { call_id, first, events } => {
                let record = self.records.get_mut(call_id).expect("events of a call that was made");
                assert_eq!(*first, record.head() + 1, "the log has no holes");
                for (kind, frame) in events {
                    record.events.push((*kind, frame.to_string()));
                    let cursor = Cursor::of_message(frame).expect("an event carries its cursor").to_owned();
                    let cursors = self.cursors.iter_mut().find(|(record, _)| record == call_id);
                    cursors.expect("a record").1.push(cursor);
                    let before = self.owners.insert(frame.to_string(), (*call_id, record.head()));
                    assert_eq!(before, None, "two events have the same frame: {frame}");
                }
            }
            Notification::Merged { from, into } => {
                for (call_id, _) in self.names.values_mut().filter(|(call_id, _)| call_id == from) {
                    *call_id = *into;
                }
                self.end(*from, EndReason::Merged(*into));
            }
            Notification::Deleted { call_id } => {
                self.names.retain(|_, (named, _)| named != call_id);
                self.end(*call_id, EndReason::Deleted);
            }
            // These change no log. `HeadMoved` comes from other servers only.
            Notification::PartialTurn { .. }
            | Notification::IdentifierAssigned { .. }
            | Notification::HeadMoved { .. } => {}
        }
    }

    fn end(&mut self, call_id: CallId, end_reason: EndReason) {
        self.records.get_mut(&call_id).expect("a record").end_reason = Some(end_reason);
        self.ended_records += 1;
    }
}
