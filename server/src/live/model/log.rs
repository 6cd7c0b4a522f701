//! What was committed, as the write path said it: the truth that subscribers are held to.

use std::collections::HashMap;

use callscope_common::event::EventKind;
use callscope_common::{CallId, Seq};

use crate::live::wire::Fate;
use crate::store::ledger::Wake;

/// One record and what became of it. Its events stay here when the record is merged or deleted.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub events: Vec<(EventKind, String)>,
    pub fate: Option<Fate>,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    pub records: HashMap<CallId, Record>,
    /// Which record a name means, and since which step.
    names: HashMap<String, (CallId, usize)>,
    /// No two events have the same frame: that tells whose a received one is.
    owners: HashMap<String, (CallId, Seq)>,
    /// Records merged or deleted so far.
    pub upheavals: usize,
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
        self.names.extend(names.iter().map(|name| (name.clone(), (call_id, step))));
    }

    pub fn named(&self, name: &str) -> Option<CallId> {
        self.names.get(name).map(|(call_id, _)| *call_id)
    }

    /// The record that this one is a part of now; `None` where it was deleted.
    pub fn survivor(&self, call_id: CallId) -> Option<CallId> {
        match self.records[&call_id].fate {
            None => Some(call_id),
            Some(Fate::Merged(into)) => self.survivor(into),
            Some(Fate::Deleted) => None,
        }
    }

    /// Whether the name has meant a call all the time since `step`.
    pub fn was_known(&self, name: &str, step: usize) -> bool {
        self.names.get(name).is_some_and(|(_, since)| *since < step)
    }

    pub fn owner(&self, frame: &str) -> Option<(CallId, Seq)> {
        self.owners.get(frame).copied()
    }

    /// Takes in what was committed.
    pub fn take(&mut self, wake: &Wake) {
        match wake {
            Wake::Events { call_id, first, events } => {
                let record = self.records.get_mut(call_id).expect("events of a call that was made");
                assert_eq!(*first, record.head() + 1, "the log has no holes");
                for (kind, frame) in events {
                    record.events.push((*kind, frame.to_string()));
                    let before = self.owners.insert(frame.to_string(), (*call_id, record.head()));
                    assert_eq!(before, None, "two events have the same frame: {frame}");
                }
            }
            Wake::Merged { from, into } => {
                for (call_id, _) in self.names.values_mut().filter(|(call_id, _)| call_id == from) {
                    *call_id = *into;
                }
                self.end(*from, Fate::Merged(*into));
            }
            Wake::Deleted { call_id } => {
                self.names.retain(|_, (named, _)| named != call_id);
                self.end(*call_id, Fate::Deleted);
            }
            // A head without its events is only heard of from other servers.
            Wake::Partial { .. } | Wake::Named { .. } | Wake::Head { .. } => {}
        }
    }

    fn end(&mut self, call_id: CallId, fate: Fate) {
        self.records.get_mut(&call_id).expect("a record").fate = Some(fate);
        self.upheavals += 1;
    }
}
