//! One subscription over all its connections: where it stands, and what it was given.

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
    /// With the log's first event.
    History,
    /// With what comes after the confirmation.
    Live,
}

/// One subscription.
#[derive(Debug)]
pub struct Subscription {
    /// Of which call.
    pub call: Arc<CallLedger>,
    /// Who follows, for the violations.
    pub who: String,
    /// The identifier it was first subscribed by.
    pub name: String,
    /// Whether it waits for a call that is not known yet.
    pub waits: bool,
    start: Start,
    /// The life of the call that `last` belongs to.
    pub life: Option<CallId>,
    /// Events up to this one are not owed.
    pub base: Option<i64>,
    /// The last event taken.
    pub last: i64,
    /// How far what was received already was replayed, where it was asked for once more just before it ended.
    replayed: Option<i64>,
    /// Where it stood each time it was asked for on the present connection. Several requests may be on their way.
    pub asked: Vec<i64>,
    /// The last cursor that a message carried; none where the log is to be followed from its start.
    pub place: Option<String>,
    /// What came, in the order of its coming.
    pub got: Vec<(i64, u64)>,
    /// Since when it is confirmed on the present connection.
    pub confirmed: Option<Instant>,
    /// The server has ended the subscription by itself.
    pub is_over: bool,
}

/// What stands in for an event's bytes.
#[must_use]
pub fn fingerprint(frame: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    frame.hash(&mut hasher);
    hasher.finish()
}

impl Subscription {
    /// Not subscribed yet.
    #[must_use]
    pub fn new(call: Arc<CallLedger>, who: &str, name: String, start: Start, waits: bool) -> Self {
        Self {
            call,
            who: who.to_owned(),
            name,
            waits,
            start,
            life: None,
            base: None,
            last: 0,
            place: None,
            asked: Vec::new(),
            replayed: None,
            got: Vec::new(),
            confirmed: None,
            is_over: false,
        }
    }

    /// What to send, naming the call by `name`.
    #[must_use]
    pub fn request(&self, name: &str) -> Value {
        let mut request = match (self.base, self.start, &self.place, self.life) {
            (Some(_), _, None, _) | (None, Start::History, ..) => json!({"subscribe": name}),
            // Now and then by the number and the record that it counts, as clients without cursors do.
            (Some(_), _, Some(_), Some(life)) if self.last % 5 == 4 => {
                json!({"subscribe": name, "after": self.last, "call_id": life})
            }
            (Some(_), _, Some(place), _) => json!({"subscribe": name, "after": place}),
            (None, Start::Live, ..) => json!({"subscribe": name, "history": false}),
        };
        if self.waits {
            request["wait"] = true.into();
        }
        request
    }

    /// The server confirms it.
    pub fn confirm(
        &mut self,
        life: CallId,
        (head, cursor, is_new): (i64, &str, bool),
        ended: bool,
        violations: &Violations,
    ) {
        if self.life.is_some_and(|known| known != life) {
            violations.add(Violation::Altered, || {
                format!("{self}: confirmed for {life} at {head}, without a word about {:?}", self.life)
            });
            self.restart();
        }
        if head < self.last {
            violations.add(Violation::Missing, || {
                format!("{self}: confirmed with the head {head}, behind what was received")
            });
        }
        self.life = Some(life);
        self.confirmed = Some(Instant::now());
        self.replayed = None;
        let place = cursor.parse::<Cursor>().map_or(-1, Cursor::seq);
        if self.base.is_some() && place != self.last {
            let asked = self.asked.iter().position(|asked| *asked == place).filter(|_| self.is_over && is_new);
            if let Some(asked) = asked {
                self.asked.swap_remove(asked);
                // Asked for once more before the end was read: what follows was received already.
                self.replayed = Some(place);
            } else {
                violations.add(Violation::Misplaced, || {
                    format!("{self}: confirmed at {cursor}, which is not where it stands")
                });
            }
        }
        self.place = Some(cursor.to_owned());
        if self.base.is_none() {
            let base = if self.start == Start::Live { place } else { 0 };
            (self.base, self.last) = (Some(base), base);
            self.is_over = self.start == Start::Live && ended;
        }
        self.waits = false;
    }

    /// The server refuses a request. A subscription that was confirmed on this connection goes on: an error ends nothing but the request.
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

    /// Whatever was received belongs to a record that is gone: the call's log follows from its start.
    pub fn restart(&mut self) {
        self.got.clear();
        (self.life, self.base, self.last, self.place) = (None, Some(0), 0, None);
        self.confirmed = None;
        self.is_over = false;
    }

    /// An event comes; says whether it is the next one owed.
    pub fn take(&mut self, seq: i64, frame: &str, violations: &Violations) -> bool {
        if self.confirmed.is_none() {
            violations.add(Violation::Disordered, || format!("{self}: seq {seq} before the confirmation"));
        }
        if let Some(place) = self.replayed.filter(|place| *place < self.last && seq == place + 1) {
            self.replayed = Some(place + 1);
            if !self.got.contains(&(seq, fingerprint(frame))) {
                violations.add(Violation::Altered, || format!("{self}: replayed otherwise: {frame:.200}"));
            }
            return false;
        }
        let is_next = seq == self.last + 1;
        if !is_next {
            let violation = match self.got.iter().any(|(got, _)| *got == seq) {
                true => Violation::Doubled,
                false if seq <= self.last => Violation::Disordered,
                false => Violation::Lost,
            };
            violations.add(violation, || format!("{self}: expected seq {}, got {seq}: {frame:.200}", self.last + 1));
        }
        self.got.push((seq, fingerprint(frame)));
        self.last = self.last.max(seq);
        match Cursor::of_message(frame) {
            Some(cursor) => self.place = Some(cursor.to_owned()),
            None => violations.add(Violation::Altered, || format!("{self}: an event without a cursor: {frame:.200}")),
        }
        is_next
    }
}

impl std::fmt::Display for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} following c{} ({:?}) as {}, life {:?}, at seq {}",
            self.who, self.call.plan.index, self.call.plan.shape, self.name, self.life, self.last
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
        let (violations, life) = (Violations::default(), CallId::nil());
        let mut subscription = Subscription::new(call, "someone", "name".into(), Start::History, false);
        subscription.confirm(life, (9, &format!("0.{TAG}"), true), true, &violations);
        for seq in 1..=9 {
            // Asked for at 2 and at 5; both requests are read after the last event was sent.
            if matches!(seq, 3 | 6) {
                subscription.asked.push(subscription.last);
            }
            subscription.take(seq, &message(seq), &violations);
        }
        subscription.is_over = true;
        for place in [2, 5] {
            subscription.confirm(life, (9, &format!("{place}.{TAG}"), true), true, &violations);
            for seq in place + 1..=9 {
                subscription.take(seq, &message(seq), &violations);
            }
        }
        assert!(violations.is_clean(), "{violations:?}");
        subscription.confirm(life, (9, &format!("4.{TAG}"), true), true, &violations);
        assert_eq!(violations.of(Violation::Misplaced).0, 1, "nothing was asked for at 4");
    }

    #[test]
    fn a_subscription_goes_on_where_asking_for_it_again_was_refused() {
        let call = Arc::new(CallLedger::new(Plan::new(1, 1)));
        let (violations, life) = (Violations::default(), CallId::nil());
        let mut subscription = Subscription::new(call, "someone", "name".into(), Start::History, false);
        subscription.refuse(Some("SUBSCRIPTION_FAILED"), None, &violations);
        subscription.confirm(life, (1, &format!("0.{TAG}"), true), false, &violations);
        subscription.take(1, &message(1), &violations);
        // The database is away while it is asked for once more.
        subscription.refuse(Some("SUBSCRIPTION_FAILED"), None, &violations);
        subscription.take(2, &message(2), &violations);
        assert!(violations.is_clean(), "{violations:?}");
        subscription.refuse(Some("CALL_NOT_FOUND"), None, &violations);
        assert!(!violations.is_clean());
    }
}
