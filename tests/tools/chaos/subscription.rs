//! One subscription over all its connections: where it stands, and what it received.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use callscope_common::{CallId, Cursor};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ledger::CallLedger;
use crate::plan::Shape;
use crate::violations::{Violation, Violations};

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the first event of the log.
    History,
    /// With what comes after the confirmation.
    Live,
}

#[derive(Debug)]
pub struct Subscription {
    pub call: Arc<CallLedger>,
    /// The name of the follower, for the violations.
    pub follower: String,
    /// The identifier of the first request.
    pub name: String,
    /// Whether it waits for a call that is not known yet.
    pub waits: bool,
    start: Start,
    /// The record that `last` belongs to.
    pub record: Option<CallId>,
    /// Events up to this one are not owed.
    pub base: Option<i64>,
    /// The last event received.
    pub last: i64,
    /// How far received events were replayed, if the call was requested again just before its end.
    replayed: Option<i64>,
    /// Where it stood at each request on this connection. Several requests may be on their way.
    pub asked: Vec<i64>,
    /// The last cursor that a message carried; `None` if the log is to be followed from its start.
    pub cursor: Option<String>,
    /// Seq and fingerprint of every event, in the order of arrival.
    pub received: Vec<(i64, u64)>,
    /// When the server confirmed it on this connection.
    pub confirmed: Option<Instant>,
    /// Whether the server has ended the subscription.
    pub is_over: bool,
}

/// Returns a hash that stands for an event's bytes.
#[must_use]
pub fn fingerprint(frame: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    frame.hash(&mut hasher);
    hasher.finish()
}

impl Subscription {
    #[must_use]
    pub fn new(call: Arc<CallLedger>, follower: &str, name: String, start: Start, waits: bool) -> Self {
        Self {
            call,
            follower: follower.to_owned(),
            name,
            waits,
            start,
            record: None,
            base: None,
            last: 0,
            cursor: None,
            asked: Vec::new(),
            replayed: None,
            received: Vec::new(),
            confirmed: None,
            is_over: false,
        }
    }

    /// Returns the request, which names the call by `name`.
    #[must_use]
    pub fn request(&self, name: &str) -> Value {
        let mut request = match (self.base, self.start, &self.cursor, self.record) {
            (Some(_), _, None, _) | (None, Start::History, ..) => json!({"subscribe": name}),
            // Some requests name the number and its record instead, as clients without cursors do.
            (Some(_), _, Some(_), Some(record)) if self.last % 5 == 4 => {
                json!({"subscribe": name, "after": self.last, "call_id": record})
            }
            (Some(_), _, Some(cursor), _) => json!({"subscribe": name, "after": cursor}),
            (None, Start::Live, ..) => json!({"subscribe": name, "history": false}),
        };
        if self.waits {
            request["wait"] = true.into();
        }
        request
    }

    /// Takes a confirmation.
    pub fn confirm(
        &mut self,
        record: CallId,
        (head, cursor, is_new): (i64, &str, bool),
        ended: bool,
        violations: &Violations,
    ) {
        if self.record.is_some_and(|known| known != record) {
            violations.add(Violation::Altered, || {
                format!("{self}: confirmed for {record} at {head}, without a word about {:?}", self.record)
            });
            self.restart();
        }
        if head < self.last {
            violations.add(Violation::Missing, || {
                format!("{self}: confirmed with the head {head}, behind what was received")
            });
        }
        self.record = Some(record);
        self.confirmed = Some(Instant::now());
        self.replayed = None;
        let position = cursor.parse::<Cursor>().map_or(-1, Cursor::seq);
        if self.base.is_some() && position != self.last {
            let asked = self.asked.iter().position(|asked| *asked == position).filter(|_| self.is_over && is_new);
            if let Some(asked) = asked {
                self.asked.swap_remove(asked);
                // This request was sent before the end was read, so the events that follow were received already.
                self.replayed = Some(position);
            } else {
                violations.add(Violation::Misplaced, || {
                    format!("{self}: confirmed at {cursor}, which is not where it stands")
                });
            }
        }
        self.cursor = Some(cursor.to_owned());
        if self.base.is_none() {
            let base = if self.start == Start::Live { position } else { 0 };
            (self.base, self.last) = (Some(base), base);
            self.is_over = self.start == Start::Live && ended;
        }
        self.waits = false;
    }

    /// Takes a refusal. An error ends nothing but the request, so a subscription that was confirmed on this connection
    /// goes on.
    pub fn refuse(&mut self, code: Option<&str>, message: Option<&str>, violations: &Violations) {
        match code {
            Some("CURSOR_INVALID") if self.call.plan.shape == Shape::TwoNames => self.restart(),
            Some("SUBSCRIPTION_FAILED") | None => {}
            Some(code) => {
                let violation = if code == "CALL_NOT_FOUND" { Violation::Missing } else { Violation::Refused };
                violations.add(violation, || format!("{self}: {code} {message:?}"));
            }
        }
    }

    /// Starts again with the first event, because the events so far belong to a record that is gone.
    pub fn restart(&mut self) {
        self.received.clear();
        (self.record, self.base, self.last, self.cursor) = (None, Some(0), 0, None);
        self.confirmed = None;
        self.is_over = false;
    }

    /// Takes an event and returns whether it is the next one owed.
    pub fn receive(&mut self, seq: i64, frame: &str, violations: &Violations) -> bool {
        if self.confirmed.is_none() {
            violations.add(Violation::Disordered, || format!("{self}: seq {seq} before the confirmation"));
        }
        if let Some(position) = self.replayed.filter(|position| *position < self.last && seq == position + 1) {
            self.replayed = Some(position + 1);
            if !self.received.contains(&(seq, fingerprint(frame))) {
                violations.add(Violation::Altered, || format!("{self}: replayed otherwise: {frame:.200}"));
            }
            return false;
        }
        let is_next = seq == self.last + 1;
        if !is_next {
            let violation = match self.received.iter().any(|(got, _)| *got == seq) {
                true => Violation::Doubled,
                false if seq <= self.last => Violation::Disordered,
                false => Violation::Lost,
            };
            violations.add(violation, || format!("{self}: expected seq {}, got {seq}: {frame:.200}", self.last + 1));
        }
        self.received.push((seq, fingerprint(frame)));
        self.last = self.last.max(seq);
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
            self.follower, self.call.plan.index, self.call.plan.shape, self.name, self.record, self.last
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
    fn every_request_that_is_still_on_its_way_may_be_answered_after_the_end() {
        let call = Arc::new(CallLedger::new(Plan::new(1, 1)));
        let (violations, record) = (Violations::default(), CallId::nil());
        let mut subscription = Subscription::new(call, "follower", "name".into(), Start::History, false);
        subscription.confirm(record, (9, &format!("0.{TAG}"), true), true, &violations);
        for seq in 1..=9 {
            // Both requests, at 2 and at 5, are read after the last event was sent.
            if matches!(seq, 3 | 6) {
                subscription.asked.push(subscription.last);
            }
            subscription.receive(seq, &message(seq), &violations);
        }
        subscription.is_over = true;
        for position in [2, 5] {
            subscription.confirm(record, (9, &format!("{position}.{TAG}"), true), true, &violations);
            for seq in position + 1..=9 {
                subscription.receive(seq, &message(seq), &violations);
            }
        }
        assert!(violations.is_clean(), "{violations:?}");
        subscription.confirm(record, (9, &format!("4.{TAG}"), true), true, &violations);
        assert_eq!(violations.of(Violation::Misplaced).0, 1, "nothing was asked for at 4");
    }

    #[test]
    fn a_subscription_goes_on_where_asking_for_it_again_was_refused() {
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
