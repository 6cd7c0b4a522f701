//! What was sent and what was acknowledged: the truth that logs and subscribers are compared with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::time::Instant;

use crate::plan::Plan;
use crate::violations::{Violation, Violations};

/// Number of calls that are planned ahead, so that followers can wait for calls that do not exist yet.
const AHEAD: usize = 6;

/// Counts for the table of the outcome.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests sent, with every retry.
    pub sent: AtomicU64,
    /// Deliveries that got a 2xx.
    pub acknowledged: AtomicU64,
    /// Requests sent again although the delivery was acknowledged, and copies sent at once.
    pub resent: AtomicU64,
    pub received: AtomicU64,
    pub connections: AtomicU64,
    /// Calls that were merged while a subscriber followed them.
    pub merges: AtomicU64,
    /// Close codes that subscribers received, with their counts.
    pub closes: Mutex<std::collections::BTreeMap<u16, u64>>,
}

#[derive(Debug, Clone)]
pub struct Acknowledged {
    pub status: u16,
    pub json: Value,
    pub at: Instant,
}

#[derive(Debug, Clone)]
pub struct Sent {
    /// The identifier that named its call.
    pub name: String,
    /// The first 2xx.
    pub acknowledged: Option<Acknowledged>,
}

/// What is known about one call.
#[derive(Debug)]
pub struct CallLedger {
    pub plan: Plan,
    /// Keyed by the text; the call's result is keyed by its summary.
    sent: Mutex<HashMap<String, Sent>>,
    /// The names by which a delivery was acknowledged.
    known: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl CallLedger {
    pub(super) fn new(plan: Plan) -> Self {
        Self { plan, sent: Mutex::default(), known: Mutex::default(), ended: AtomicBool::new(false) }
    }

    /// Notes that a delivery is being sent.
    pub fn send(&self, text: &str, name: &str) {
        let sent = Sent { name: name.to_owned(), acknowledged: None };
        self.sent.lock().unwrap().entry(text.to_owned()).or_insert(sent);
    }

    /// Notes a 2xx and returns whether it was the first. A repeat must get the same answer as the first.
    pub fn acknowledge(&self, text: &str, status: u16, json: Value, violations: &Violations) -> bool {
        let at = Instant::now();
        let mut sent = self.sent.lock().unwrap();
        let sent = sent.get_mut(text).expect("a text is sent before it is acknowledged");
        if let Some(first) = &sent.acknowledged {
            if first.status != status || first.json != json {
                violations.add(Violation::Answer, || {
                    format!("{:.60}: first {} {}, then {status} {json}", text, first.status, first.json)
                });
            }
            return false;
        }
        sent.acknowledged = Some(Acknowledged { status, json, at });
        true
    }

    /// Notes that a delivery by this name was acknowledged.
    pub fn know(&self, name: &str) {
        let mut known = self.known.lock().unwrap();
        if !known.iter().any(|other| other == name) {
            known.push(name.to_owned());
        }
    }

    /// Returns the names by which the servers must know the call.
    #[must_use]
    pub fn known(&self) -> Vec<String> {
        self.known.lock().unwrap().clone()
    }

    /// Notes that the call's result was acknowledged, which makes all its names known.
    pub fn end(&self) {
        for name in &self.plan.names {
            self.know(name);
        }
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Returns whether the call's result was acknowledged.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Returns when a text was acknowledged: `None` if it was never sent, `Some(None)` if its answer is still on its
    /// way.
    #[must_use]
    pub fn acknowledged_at(&self, text: &str) -> Option<Option<Instant>> {
        Some(self.sent.lock().unwrap().get(text)?.acknowledged.as_ref().map(|acknowledged| acknowledged.at))
    }

    #[must_use]
    pub fn all(&self) -> HashMap<String, Sent> {
        self.sent.lock().unwrap().clone()
    }
}

/// All calls of a run.
#[derive(Debug)]
pub struct Ledger {
    seed: u64,
    calls: Mutex<Vec<Arc<CallLedger>>>,
    begun: AtomicUsize,
    pub violations: Violations,
    pub counts: Counts,
}

impl Ledger {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let calls = (0..AHEAD).map(|index| Arc::new(CallLedger::new(Plan::new(seed, index)))).collect();
        Self {
            seed,
            calls: Mutex::new(calls),
            begun: AtomicUsize::new(0),
            violations: Violations::default(),
            counts: Counts::default(),
        }
    }

    /// Begins the next planned call and plans another.
    pub fn begin(&self) -> Arc<CallLedger> {
        let mut calls = self.calls.lock().unwrap();
        let index = self.begun.fetch_add(1, Ordering::SeqCst);
        let next = calls.len();
        calls.push(Arc::new(CallLedger::new(Plan::new(self.seed, next))));
        Arc::clone(&calls[index])
    }

    #[must_use]
    pub fn begun(&self) -> Vec<Arc<CallLedger>> {
        self.calls.lock().unwrap()[..self.begun.load(Ordering::SeqCst)].to_vec()
    }

    /// Returns the newest calls, including planned ones.
    #[must_use]
    pub fn newest(&self, count: usize) -> Vec<Arc<CallLedger>> {
        let calls = self.calls.lock().unwrap();
        calls[calls.len().saturating_sub(count)..].to_vec()
    }
}
