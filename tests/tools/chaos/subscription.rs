//! A subscription over all connections of its follower: its position in the log, and what it received.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use callscope_common::{CallId, Cursor};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ledger::CallLedger;
use crate::plan::CallShape;
use crate::violations::{Violation, Violations};

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first event of the log.
    History,
    /// At the head that the first confirmation states.
    Live,
}

#[derive(Debug)]
pub struct Subscription {
    pub call: Arc<CallLedger>,
    /// The name of the follower, for messages about violations.
    pub follower: String,
    /// The identifier in the first request.
    pub name: String,
    /// Whether requests ask the server to wait for the call, because it may not exist yet.
    pub waits_for_call: bool,
    start: Start,
    /// The record whose log is followed.
    pub record: Option<CallId>,
    /// The server owes the events after this seq; `None` until the first confirmation.
    pub first_owed_after: Option<i64>,
    /// Seq of the last event received.
    pub last_seq: i64,
    /// Seq up to which events were received a second time, if a request reached the server after the subscription's
    /// end.
    replayed_to: Option<i64>,
    /// `last_seq` at each request on this connection that was not confirmed out of order.
    pub requested_at_seq: Vec<i64>,
    /// The cursor of the last message; `None` to start at the first event.
    pub cursor: Option<String>,
    /// Seq and fingerprint of every event, in the order of arrival.
    pub received: Vec<(i64, u64)>,
    /// Time of the last confirmation on this connection.
    pub confirmed_at: Option<Instant>,
    /// Whether the server has ended the subscription.
    pub has_ended: bool,
}

/// Returns a hash of an event's bytes, which is kept instead of them.
#[must_use]
pub fn fingerprint(frame: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    frame.hash(&mut hasher);
    hasher.finish()
}

impl Subscription {
    #[must_use]
    pub fn new(call: Arc<CallLedger>, follower: &str, name: String, start: Start, waits_for_call: bool) -> Self {
        Self {
            call,
            follower: follower.to_owned(),
            name,
            waits_for_call,
            start,
            record: None,
            first_owed_after: None,
            last_seq: 0,
            cursor: None,
            requested_at_seq: Vec::new(),
            replayed_to: None,
            received: Vec::new(),
            confirmed_at: None,
            has_ended: false,
        }
    }

    /// Returns a request that names the call by `name` and resumes after `last_seq`.
    #[must_use]
    pub fn request(&self, name: &str) -> Value {
        let mut request = match (self.first_owed_after, self.start, &self.cursor, self.record) {
            (Some(_), _, None, _) | (None, Start::History, ..) => json!({"subscribe": name}),
            // A fifth of the requests state a seq and its record, as clients that do not store cursors do.
            (Some(_), _, Some(_), Some(record)) if self.last_seq % 5 == 4 => {
                json!({"subscribe": name, "after": self.last_seq, "call_id": record})
            }
            (Some(_), _, Some(cursor), _) => json!({"subscribe": name, "after": cursor}),
            (None, Start::Live, ..) => json!({"subscribe": name, "history": false}),
        };
        if self.waits_for_call {
            request["wait"] = true.into();
        }
        request
    }

    /// Applies a confirmation and checks that the server resumes where the subscription is.
    pub fn confirm(
        &mut self,
        record: CallId,
        (head, cursor, is_new): (i64, &str, bool),
        call_has_ended: bool,
        violations: &Violations,
    ) {
        if self.record.is_some_and(|followed| followed != record) {
            violations.add(Violation::Altered, || {
                format!("{self}: confirmed for the record {record} at the head {head} without a `call_merged`")
            });
            self.restart();
        }
        if head < self.last_seq {
            violations.add(Violation::Missing, || {
                format!("{self}: confirmed with the head {head}, which is before the last event received")
            });
        }
        self.record = Some(record);
        self.confirmed_at = Some(Instant::now());
        self.replayed_to = None;
        // -1 is never a position, so a cursor that cannot be parsed is a violation.
        let position = cursor.parse::<Cursor>().map_or(-1, Cursor::seq);
        if self.first_owed_after.is_some() && position != self.last_seq {
            // A request that was sent before the end was read starts a new subscription, which sends events again.
            let request = self.requested_at_seq.iter().position(|seq| *seq == position);
            if let Some(request) = request.filter(|_| self.has_ended && is_new) {
                self.requested_at_seq.swap_remove(request);
                self.replayed_to = Some(position);
            } else {
                violations.add(Violation::Misplaced, || {
                    format!("{self}: confirmed at {cursor}, which is not after the last event received")
                });
            }
        }
        self.cursor = Some(cursor.to_owned());
        if self.first_owed_after.is_none() {
            let first_owed_after = if self.start == Start::Live { position } else { 0 };
            (self.first_owed_after, self.last_seq) = (Some(first_owed_after), first_owed_after);
            self.has_ended = self.start == Start::Live && call_has_ended;
        }
        self.waits_for_call = false;
    }

    /// Applies an error. It refuses one request only: a subscription that was confirmed on this connection continues.
    pub fn refuse(&mut self, code: Option<&str>, message: Option<&str>, violations: &Violations) {
        match code {
            // The record of the cursor was absorbed while no connection followed it.
            Some("CURSOR_INVALID") if self.call.plan.shape == CallShape::TwoNames => self.restart(),
            Some("SUBSCRIPTION_FAILED") | None => {}
            Some(code) => {
                let violation = if code == "CALL_NOT_FOUND" { Violation::Missing } else { Violation::Refused };
                violations.add(violation, || format!("{self}: {code} {message:?}"));
            }
        }
    }

    /// Starts over at the first event, because the record of the events so far was absorbed by another.
    pub fn restart(&mut self) {
        self.received.clear();
        (self.record, self.first_owed_after, self.last_seq, self.cursor) = (None, Some(0), 0, None);
        self.confirmed_at = None;
        self.has_ended = false;
    }

    /// Records an event and returns whether it was the next one owed.
    pub fn receive(&mut self, seq: i64, frame: &str, violations: &Violations) -> bool {
        if self.confirmed_at.is_none() {
            violations.add(Violation::Disordered, || format!("{self}: seq {seq} before the confirmation"));
        }
        if let Some(replayed_to) =
            self.replayed_to.filter(|seq_before| *seq_before < self.last_seq && seq == seq_before + 1)
        {
            self.replayed_to = Some(replayed_to + 1);
            if !self.received.contains(&(seq, fingerprint(frame))) {
                violations.add(Violation::Altered, || format!("{self}: the replayed event differs: {frame:.200}"));
            }
            return false;
        }
        let is_next = seq == self.last_seq + 1;
        if !is_next {
            let violation = match self.received.iter().any(|(got, _)| *got == seq) {
                true => Violation::Doubled,
                false if seq <= self.last_seq => Violation::Disordered,
                false => Violation::Lost,
            };
            violations
                .add(violation, || format!("{self}: expected seq {}, got {seq}: {frame:.200}", self.last_seq + 1));
        }
        self.received.push((seq, fingerprint(frame)));
        self.last_seq = self.last_seq.max(seq);
        match Cursor::of_message(frame) {
            Some(cursor) => self.cursor = Some(cursor.to_owned()),
            None => violations.add(Violation::Altered, || format!("{self}: an event without a cursor: {frame:.200}")),
        }
        is_next
    }
}

impl std::fmt::Display for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} following c{} ({:?}) as {}, record {:?}, at seq {}",
            self.follower, self.call.plan.index, self.call.plan.shape, self.name, self.record, self.last_seq
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    const TAG: &str = "t7V286ocdcrYoFKvjjY";

    fn message(seq: i64) -> String {
        format!(r#"{{"type":"transcription","seq":{seq},"cursor":"{seq}.{TAG}"}}"#)
    }

    #[test]
    fn requests_sent_before_the_end_was_read_may_be_confirmed_after_it() {
        let call = Arc::new(CallLedger::new(Plan::new(1, 1)));
        let (violations, record) = (Violations::default(), CallId::nil());
        let mut subscription = Subscription::new(call, "follower", "name".into(), Start::History, false);
        subscription.confirm(record, (9, &format!("0.{TAG}"), true), true, &violations);
        for seq in 1..=9 {
            // The server reads both requests, sent at seq 2 and at seq 5, only after it has sent the last event.
            if matches!(seq, 3 | 6) {
                subscription.requested_at_seq.push(subscription.last_seq);
            }
            subscription.receive(seq, &message(seq), &violations);
        }
        subscription.has_ended = true;
        for position in [2, 5] {
            subscription.confirm(record, (9, &format!("{position}.{TAG}"), true), true, &violations);
            for seq in position + 1..=9 {
                subscription.receive(seq, &message(seq), &violations);
            }
        }
        assert!(violations.is_clean(), "{violations:?}");
        subscription.confirm(record, (9, &format!("4.{TAG}"), true), true, &violations);
        assert_eq!(violations.cases_of(Violation::Misplaced).0, 1, "no request was sent at seq 4");
    }

    #[test]
    fn a_subscription_continues_after_a_second_request_for_it_was_refused() {
        let call = Arc::new(CallLedger::new(Plan::new(1, 1)));
        let (violations, record) = (Violations::default(), CallId::nil());
        let mut subscription = Subscription::new(call, "follower", "name".into(), Start::History, false);
        subscription.refuse(Some("SUBSCRIPTION_FAILED"), None, &violations);
        subscription.confirm(record, (1, &format!("0.{TAG}"), true), false, &violations);
        subscription.receive(1, &message(1), &violations);
        // The database is away while the call is requested again.
        subscription.refuse(Some("SUBSCRIPTION_FAILED"), None, &violations);
        subscription.receive(2, &message(2), &violations);
        assert!(violations.is_clean(), "{violations:?}");
        subscription.refuse(Some("CALL_NOT_FOUND"), None, &violations);
        assert!(!violations.is_clean());
    }
}
