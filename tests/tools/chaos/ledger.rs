//! What was sent and what was acknowledged. Logs and subscribers are compared with it at the end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::time::Instant;

use crate::plan::Plan;
use crate::violations::{Violation, Violations};

/// Number of calls that are planned before they start, so that followers can wait for calls that do not exist yet.
const PLANNED_AHEAD: usize = 6;

/// Counts for the table of the outcome.
#[derive(Debug, Default)]
pub struct Counts {
    /// Webhook requests sent, with every retry.
    pub sent: AtomicU64,
    /// Deliveries that got a 2xx.
    pub acknowledged: AtomicU64,
    /// Requests sent again although the delivery was acknowledged, and additional copies sent at the same time.
    pub resent: AtomicU64,
    /// Events that subscribers received.
    pub received: AtomicU64,
    /// Connections that subscribers opened.
    pub connections: AtomicU64,
    /// `call_merged` messages that subscribers received.
    pub merges: AtomicU64,
    /// Close codes that subscribers received, with their counts.
    pub closes: Mutex<std::collections::BTreeMap<u16, u64>>,
}

/// The first 2xx answer to a delivery.
#[derive(Debug, Clone)]
pub struct Acknowledgement {
    pub status: u16,
    pub json: Value,
    pub at: Instant,
}

/// A delivery that was sent at least once.
#[derive(Debug, Clone)]
pub struct SentDelivery {
    /// The identifier by which the delivery names its call.
    pub name: String,
    pub acknowledged: Option<Acknowledgement>,
}

/// What was sent and acknowledged for one call.
#[derive(Debug)]
pub struct CallLedger {
    pub plan: Plan,
    /// Deliveries by the text of their turn; the post-call webhook is keyed by its summary.
    sent: Mutex<HashMap<String, SentDelivery>>,
    known_names: Mutex<Vec<String>>,
    has_ended: AtomicBool,
}

impl CallLedger {
    pub(super) fn new(plan: Plan) -> Self {
        Self { plan, sent: Mutex::default(), known_names: Mutex::default(), has_ended: AtomicBool::new(false) }
    }

    /// Records that a delivery is about to be sent.
    pub fn record_sent(&self, text: &str, name: &str) {
        let sent = SentDelivery { name: name.to_owned(), acknowledged: None };
        self.sent.lock().unwrap().entry(text.to_owned()).or_insert(sent);
    }

    /// Records a 2xx and returns whether it was the delivery's first. Every later 2xx must be equal to the first.
    pub fn record_acknowledged(&self, text: &str, status: u16, json: Value, violations: &Violations) -> bool {
        let at = Instant::now();
        let mut sent = self.sent.lock().unwrap();
        let sent = sent.get_mut(text).expect("a text is sent before it is acknowledged");
        if let Some(first) = &sent.acknowledged {
            if first.status != status || first.json != json {
                violations.add(Violation::AnswerDiffers, || {
                    format!("{:.60}: first {} {}, then {status} {json}", text, first.status, first.json)
                });
            }
            return false;
        }
        sent.acknowledged = Some(Acknowledgement { status, json, at });
        true
    }

    /// Records that a delivery by this name was acknowledged.
    pub fn add_known_name(&self, name: &str) {
        let mut known = self.known_names.lock().unwrap();
        if !known.iter().any(|other| other == name) {
            known.push(name.to_owned());
        }
    }

    /// Returns the names by which the servers must know the call: those of acknowledged deliveries.
    #[must_use]
    pub fn known_names(&self) -> Vec<String> {
        self.known_names.lock().unwrap().clone()
    }

    /// Records that the post-call webhook was acknowledged, which makes all names of the call known.
    pub fn record_end(&self) {
        for name in &self.plan.names {
            self.add_known_name(name);
        }
        self.has_ended.store(true, Ordering::SeqCst);
    }

    /// Returns whether the post-call webhook was acknowledged.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    /// Returns when a text was acknowledged: `None` if it was never sent, `Some(None)` if no 2xx has come yet.
    #[must_use]
    pub fn acknowledged_at(&self, text: &str) -> Option<Option<Instant>> {
        Some(self.sent.lock().unwrap().get(text)?.acknowledged.as_ref().map(|acknowledged| acknowledged.at))
    }

    #[must_use]
    pub fn all_sent(&self) -> HashMap<String, SentDelivery> {
        self.sent.lock().unwrap().clone()
    }
}

/// All calls of a run, the counts and the violations.
#[derive(Debug)]
pub struct Ledger {
    seed: u64,
    /// The started calls, followed by the planned ones.
    calls: Mutex<Vec<Arc<CallLedger>>>,
    started_count: AtomicUsize,
    pub violations: Violations,
    pub counts: Counts,
}

impl Ledger {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let calls = (0..PLANNED_AHEAD).map(|index| Arc::new(CallLedger::new(Plan::new(seed, index)))).collect();
        Self {
            seed,
            calls: Mutex::new(calls),
            started_count: AtomicUsize::new(0),
            violations: Violations::default(),
            counts: Counts::default(),
        }
    }

    /// Starts the next planned call and plans another.
    pub fn start_call(&self) -> Arc<CallLedger> {
        let mut calls = self.calls.lock().unwrap();
        let index = self.started_count.fetch_add(1, Ordering::SeqCst);
        let next = calls.len();
        calls.push(Arc::new(CallLedger::new(Plan::new(self.seed, next))));
        Arc::clone(&calls[index])
    }

    #[must_use]
    pub fn started_calls(&self) -> Vec<Arc<CallLedger>> {
        self.calls.lock().unwrap()[..self.started_count.load(Ordering::SeqCst)].to_vec()
    }

    /// Returns the last `count` calls, including planned ones.
    #[must_use]
    pub fn newest_calls(&self, count: usize) -> Vec<Arc<CallLedger>> {
        let calls = self.calls.lock().unwrap();
        calls[calls.len().saturating_sub(count)..].to_vec()
    }
}
