//! What became of the deliveries: a line each as NDJSON, progress on stderr, and a summary.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::courier::Outcome;
use super::script::Delivery;
use super::source::Source;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::output::Output;

/// Counts outcomes, and tells of them as they come.
pub struct Report {
    console: Console,
    ndjson: Option<Output>,
    began: Instant,
    sent: usize,
    wrong: usize,
    retries: u32,
    took: Vec<Duration>,
}

impl Report {
    /// Tells on `console`, and where there is an `ndjson` output, there too.
    pub fn new(console: Console, ndjson: Option<Output>) -> Self {
        Self { console, ndjson, began: Instant::now(), sent: 0, wrong: 0, retries: 0, took: Vec::new() }
    }

    /// Takes an outcome in: the delivery was number `number` of `total` of its source.
    pub fn add(
        &mut self,
        source: &Source,
        delivery: &Delivery,
        outcome: Outcome,
        number: usize,
        total: usize,
    ) -> Result<()> {
        self.sent += 1;
        self.retries += outcome.attempts.saturating_sub(1);
        self.took.push(outcome.took);
        if !outcome.right {
            self.wrong += 1;
            self.console.warn(format!("{}: {} was answered {}", source.name, delivery.kind, outcome.words()));
        }
        self.console.progress(&format!("{} {number}/{total} {}", source.name, delivery.kind));
        if let Some(ndjson) = &mut self.ndjson {
            ndjson.write(&format!("{}\n", line(source, delivery, &outcome)))?;
        }
        Ok(())
    }

    /// Says how it went, in one line.
    pub fn summary(&mut self) {
        self.console.progress("");
        self.took.sort_unstable();
        let median = self.took.get(self.took.len() / 2).map_or(0.0, |took| took.as_secs_f64() * 1000.0);
        let secs = self.began.elapsed().as_secs_f64();
        let (sent, wrong, retries) = (self.sent, self.wrong, self.retries);
        let deliveries = if sent == 1 { "delivery" } else { "deliveries" };
        self.console.say(format!(
            "{sent} {deliveries} in {secs:.1} s: {} as expected, {wrong} not, {retries} tried again; median answer {median:.1} ms",
            sent - wrong
        ));
    }

    /// The exit code: with `--expect`, other answers are a failed check.
    pub fn exit(&self, explicit: bool) -> Result {
        match (self.wrong, explicit) {
            (0, _) => Ok(Exit::Ok),
            (wrong, true) => Err(Failure::new(Exit::CheckFailed, format!("{wrong} answers were not as expected"))),
            (wrong, false) => Err(Failure::error(format!("{wrong} deliveries were refused"))),
        }
    }
}

/// A delivery and what became of it, as NDJSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind_of_line: &'static str,
    source: &'a str,
    route: &'static str,
    kind: &'a str,
    bytes: usize,
    status: Option<u16>,
    expected: bool,
    attempts: u32,
    ms: f64,
    /// As it came; a text where it was no JSON.
    answer: Option<Box<RawValue>>,
}

fn line(source: &Source, delivery: &Delivery, outcome: &Outcome) -> String {
    let line = Line {
        kind_of_line: "delivery",
        source: &source.name,
        route: delivery.route.name(),
        kind: &delivery.kind,
        bytes: delivery.body.len(),
        status: outcome.status,
        expected: outcome.right,
        attempts: outcome.attempts,
        ms: (outcome.took.as_secs_f64() * 1e6).round() / 1e3,
        answer: serde_json::from_str(&outcome.answer).or_else(|_| to_raw_value(&outcome.answer)).ok(),
    };
    serde_json::to_string(&line).unwrap_or_default()
}
