//! The outcome of a run, as a table and as JSON.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::disturbances::Staleness;
use crate::faults::Fault;
use crate::flags::Flags;
use crate::schedule::Schedule;
use crate::violations::Violation;

#[derive(Debug)]
pub struct Outcome {
    /// Names and values of the table.
    rows: Vec<(String, Value)>,
    /// Each kind of violation that occurred, with the number of cases and the first ones.
    violations: Vec<(Violation, u64, Vec<String>)>,
    /// The command that repeats the run.
    repeat_command: String,
}

impl Outcome {
    #[must_use]
    pub fn new(
        flags: &Flags,
        seed: u64,
        (breaking_secs, total_secs): (u64, u64),
        schedule: &Schedule,
        cluster: &Cluster,
        events: usize,
    ) -> Self {
        let counts = &cluster.ledger.counts;
        let count = |counter: &std::sync::atomic::AtomicU64| json!(counter.load(Ordering::Relaxed));
        let mut rows: Vec<(String, Value)> = vec![
            ("seed".into(), json!(seed)),
            ("database".into(), json!(flags.engine().map(super::flags::Database::as_str).unwrap_or_default())),
            ("nodes".into(), json!(flags.nodes)),
            ("seconds breaking, in all".into(), json!([breaking_secs, total_secs])),
            ("kills".into(), json!(schedule.kill_count())),
        ];
        let injected = schedule.injected.lock().unwrap();
        for fault in schedule.faults.iter().filter(|fault| **fault != Fault::Kill) {
            let value = match injected.get(fault) {
                Some(count) => json!(count),
                None if fault.is_applicable(cluster) => json!(0),
                None if needs_unused_service(*fault, cluster) => continue,
                None => json!("not possible here"),
            };
            rows.push((format!("  {}", fault.as_str()), value));
        }
        let closes: serde_json::Map<String, Value> =
            counts.closes.lock().unwrap().iter().map(|(code, count)| (code.to_string(), json!(count))).collect();
        rows.extend([
            ("calls".into(), json!(cluster.ledger.started_calls().len())),
            ("requests sent".into(), count(&counts.sent)),
            ("deliveries acknowledged".into(), count(&counts.acknowledged)),
            ("  sent again on purpose".into(), count(&counts.resent)),
            ("events in the logs".into(), json!(events)),
            ("subscriptions".into(), json!(cluster.archived.lock().unwrap().len())),
            ("events to subscribers".into(), count(&counts.received)),
            ("connections of subscribers".into(), count(&counts.connections)),
            ("  closed with".into(), Value::Object(closes)),
            ("merges told to subscribers".into(), count(&counts.merges)),
        ]);
        let found: Vec<_> = Violation::ALL
            .into_iter()
            .map(|violation| {
                let (count, cases) = cluster.ledger.violations.cases_of(violation);
                (violation, count, cases)
            })
            .collect();
        rows.extend(found.iter().map(|(violation, count, _)| (violation.as_str().to_owned(), json!(count))));
        let (undisturbed, no_redis) = cluster.disturbances.staleness();
        rows.push(("staleness, ms".into(), staleness(undisturbed)));
        if cluster.redis.is_some() {
            rows.push(("  while Redis is away".into(), staleness(no_redis)));
        }
        let violations = found.into_iter().filter(|(_, count, _)| *count > 0).collect();
        Self { rows, violations, repeat_command: flags.repeat_command(seed) }
    }

    /// Returns whether the promise held.
    #[must_use]
    pub fn promise_held(&self) -> bool {
        self.violations.is_empty()
    }

    /// Returns the table with the violations below it.
    #[must_use]
    pub fn table(&self) -> String {
        let width = self.rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut table = String::new();
        for (name, value) in &self.rows {
            let _ = writeln!(table, "{name:width$}  {}", as_text(value));
        }
        for (violation, count, cases) in &self.violations {
            let _ = writeln!(table, "\n{} ({count}):", violation.as_str());
            for case in cases {
                let _ = writeln!(table, "  {}", case.replace('\n', "\n    "));
            }
        }
        let verdict = if self.promise_held() { "the promise held" } else { "THE PROMISE WAS BROKEN" };
        let _ = write!(table, "\n{verdict}; again: {}", self.repeat_command);
        table
    }

    #[must_use]
    pub fn json(&self) -> Value {
        let rows: serde_json::Map<String, Value> =
            self.rows.iter().map(|(name, value)| (name.trim().to_owned(), value.clone())).collect();
        let cases: serde_json::Map<String, Value> =
            self.violations.iter().map(|(violation, _, cases)| (violation.as_str().to_owned(), json!(cases))).collect();
        json!({"good": self.promise_held(), "repeat": self.repeat_command, "rows": rows, "evidence": cases})
    }
}

/// Returns whether the fault breaks a service that this run does not use.
fn needs_unused_service(fault: Fault, cluster: &Cluster) -> bool {
    let name = fault.as_str();
    (name.starts_with("postgres") && cluster.postgres.is_none())
        || (name.starts_with("redis") && cluster.redis.is_none())
}

fn staleness(staleness: Staleness) -> Value {
    let Staleness { count, p50, p99, max } = staleness;
    json!(format!("p50 {p50}, p99 {p99}, max {max} (of {count})"))
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(as_text).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}
