//! What was sent and what was acknowledged: the truth that logs and subscribers are held against.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::time::Instant;

use crate::plan::Plan;
use crate::violations::{Violation, Violations};

/// Calls that are planned ahead of those going on, so that somebody can wait for them.
const AHEAD: usize = 6;

/// Counts for the table.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests sent, each try counted.
    pub sent: AtomicU64,
    /// Deliveries that got a 2xx.
    pub acknowledged: AtomicU64,
    /// Requests sent again although the delivery was acknowledged, or several at once.
    pub resent: AtomicU64,
    /// Events that subscribers got.
    pub received: AtomicU64,
    /// Connections that subscribers made.
    pub connections: AtomicU64,
    /// Calls merged under a subscriber's hands.
    pub merges: AtomicU64,
    /// Close codes that subscribers met.
    pub closes: Mutex<std::collections::BTreeMap<u16, u64>>,
}

/// What an acknowledgement said.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub json: Value,
    /// When it came.
    pub at: Instant,
}

/// One delivery.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The identifier it named its call by.
    pub name: String,
    /// The first 2xx.
    pub acknowledged: Option<Acknowledged>,
}

/// One call's page.
#[derive(Debug)]
pub struct CallLedger {
    /// What was to be said.
    pub plan: Plan,
    /// By text; the call's result by its summary.
    sent: Mutex<HashMap<String, Sent>>,
    /// The names by which a delivery was acknowledged.
    known: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl CallLedger {
    pub(super) fn new(plan: Plan) -> Self {
        Self { plan, sent: Mutex::default(), known: Mutex::default(), ended: AtomicBool::new(false) }
    }

    /// Notes that a delivery goes out.
    pub fn send(&self, text: &str, name: &str) {
        let sent = Sent { name: name.to_owned(), acknowledged: None };
        self.sent.lock().unwrap().entry(text.to_owned()).or_insert(sent);
    }

    /// Notes a 2xx; says whether it was the first. A repeat must be answered like the first.
    pub fn acknowledge(&self, text: &str, status: u16, json: Value, violations: &Violations) -> bool {
        let at = Instant::now();
        let mut sent = self.sent.lock().unwrap();
        let sent = sent.get_mut(text).expect("what is acknowledged was sent");
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

    /// Makes a name known: a delivery by it was acknowledged.
    pub fn know(&self, name: &str) {
        let mut known = self.known.lock().unwrap();
        if !known.iter().any(|other| other == name) {
            known.push(name.to_owned());
        }
    }

    /// The names by which the servers must know it.
    #[must_use]
    pub fn known(&self) -> Vec<String> {
        self.known.lock().unwrap().clone()
    }

    /// Its result was acknowledged: all its names are known.
    pub fn end(&self) {
        for name in &self.plan.names {
            self.know(name);
        }
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Whether its result was acknowledged.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// When a text was acknowledged: `None` where it was never sent, `Some(None)` where the answer is still out.
    #[must_use]
    pub fn acknowledged_at(&self, text: &str) -> Option<Option<Instant>> {
        Some(self.sent.lock().unwrap().get(text)?.acknowledged.as_ref().map(|acknowledged| acknowledged.at))
    }

    /// Everything sent.
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
    /// What went wrong.
    pub violations: Violations,
    /// For the table.
    pub counts: Counts,
}

impl Ledger {
    /// An empty one.
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

    /// The next call to be made.
    pub fn begin(&self) -> Arc<CallLedger> {
        let mut calls = self.calls.lock().unwrap();
        let index = self.begun.fetch_add(1, Ordering::SeqCst);
        let next = calls.len();
        calls.push(Arc::new(CallLedger::new(Plan::new(self.seed, next))));
        Arc::clone(&calls[index])
    }

    /// Calls that were begun.
    #[must_use]
    pub fn begun(&self) -> Vec<Arc<CallLedger>> {
        self.calls.lock().unwrap()[..self.begun.load(Ordering::SeqCst)].to_vec()
    }

    /// The newest calls, planned ones included.
    #[must_use]
    pub fn newest(&self, count: usize) -> Vec<Arc<CallLedger>> {
        let calls = self.calls.lock().unwrap();
        calls[calls.len().saturating_sub(count)..].to_vec()
    }
}
