//! What became of the deliveries: a line each as NDJSON, progress on stderr, and a summary.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use callscope_common::api::WebhookRoute;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::source::Source;
use super::{Job, Sent};
use crate::exit::{Exit, Failure, Result};
use crate::render::{Console, Output, Safe, cut};
use crate::webhook::{Delivery, Expect, Outcome};

/// So often at most the progress is drawn.
const REDRAW: Duration = Duration::from_millis(100);
/// So many wrong answers are told of one by one; the summary tells of the others.
const TOLD: usize = 5;
/// So many deliveries are compared with what the server says it received; more of them fit on no page of its list.
const COMPARED: usize = 500;
/// Cells of the bar.
const BAR: usize = 24;

/// Counts outcomes, and tells of them as they come.
pub(crate) struct Report {
    console: Console,
    ndjson: Option<Output>,
    began: Instant,
    drawn: Option<Instant>,
    /// What there is to do in all, and what was done before this run.
    expected: Expected,
    /// Whether wrong answers are shown as a diff at the end.
    diff: bool,
    sent: usize,
    calls: usize,
    copies: usize,
    differing: usize,
    lost: u32,
    retries: u32,
    took: Vec<Duration>,
    statuses: BTreeMap<Option<u16>, usize>,
    /// Wrong answers, by what was said: how many, and the first.
    wrong: BTreeMap<String, (usize, String)>,
    first_wrong: Option<String>,
    /// Route and length of each delivery that was answered, as long as there are not too many of them.
    shapes: Vec<(WebhookRoute, usize)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Expected {
    deliveries: usize,
    before: usize,
    calls: usize,
}

impl Report {
    /// Tells on `console`, and where there is an `ndjson` output, there too.
    pub(crate) fn new(console: Console, ndjson: Option<Output>) -> Self {
        Self {
            console,
            ndjson,
            began: Instant::now(),
            drawn: None,
            expected: Expected::default(),
            diff: false,
            sent: 0,
            calls: 0,
            copies: 0,
            differing: 0,
            lost: 0,
            retries: 0,
            took: Vec::new(),
            statuses: BTreeMap::new(),
            wrong: BTreeMap::new(),
            first_wrong: None,
            shapes: Vec::new(),
        }
    }

    /// Wrong answers are shown as a diff at the end, not one by one.
    pub(crate) fn with_diff(mut self, diff: bool) -> Self {
        self.diff = diff;
        self
    }

    /// There are so many deliveries of so many sources, `before` of which were sent by an earlier run.
    pub(crate) fn expect(&mut self, deliveries: usize, before: usize, calls: usize) {
        self.expected = Expected { deliveries, before, calls };
    }

    /// Takes a delivery in: number `place.0` of `place.1` of its source.
    pub(crate) fn add(
        &mut self,
        source: &Source,
        job: Job,
        delivery: &Delivery,
        sent: &Sent,
        place: (usize, usize),
    ) -> Result<()> {
        let outcome = &sent.outcome;
        self.sent += usize::from(!outcome.gave_up);
        self.lost += sent.lost;
        if self.shapes.len() <= COMPARED {
            self.shapes.push((delivery.route, delivery.body.len()));
        }
        let same = sent.copy.as_ref().map(|copy| (copy.status, &copy.answer) == (outcome.status, &outcome.answer));
        self.copies += usize::from(same.is_some());
        self.differing += usize::from(same == Some(false));
        for outcome in std::iter::once(outcome).chain(&sent.copy) {
            self.count(source, delivery, outcome, place.0);
        }
        self.progress(source, delivery, place);
        if let Some(ndjson) = &mut self.ndjson {
            ndjson.write(&Safe::json_line(&line(source, job, delivery, sent, place.0)))?;
        }
        Ok(())
    }

    fn count(&mut self, source: &Source, delivery: &Delivery, outcome: &Outcome, number: usize) {
        self.retries += outcome.attempts.saturating_sub(1);
        self.took.push(outcome.took);
        *self.statuses.entry(outcome.status).or_default() += 1;
        if outcome.is_expected || outcome.gave_up {
            return;
        }
        let what = format!("{}: {} (delivery {number})", source.name, delivery.kind);
        let told: usize = self.wrong.values().map(|(count, _)| count).sum();
        if self.diff {
            self.console.debug(format!("{what} was answered {}", outcome.summary()));
        } else if told < TOLD {
            self.console.warn(format!("{what} was answered {}", outcome.summary()));
        } else if told == TOLD {
            self.console.warn("more wrong answers are counted and told of at the end");
        }
        self.first_wrong.get_or_insert_with(|| format!("{what} was answered {}", outcome.summary()));
        self.wrong.entry(outcome.summary()).or_insert((0, what)).0 += 1;
    }

    /// Route and length of all deliveries; `None` where they are too many, or some were sent more than once.
    pub(crate) fn shapes(&self) -> Option<Vec<(WebhookRoute, usize)>> {
        let is_once = self.copies == 0 && self.lost == 0 && self.retries == 0;
        (is_once && (1..=COMPARED).contains(&self.shapes.len())).then(|| self.shapes.clone())
    }

    /// All of a source was sent.
    pub(crate) fn whole(&mut self) {
        self.calls += 1;
    }

    fn progress(&mut self, source: &Source, delivery: &Delivery, (number, total): (usize, usize)) {
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return;
        }
        self.drawn = Some(Instant::now());
        let Expected { deliveries, before, calls } = self.expected;
        if calls <= 1 {
            return self.draw(&format!("{} {number}/{total} {}", source.name, delivery.kind));
        }
        let done = before + self.sent;
        let cells = (done * BAR).checked_div(deliveries).unwrap_or(0).min(BAR);
        self.draw(&format!(
            "{}{} {done}/{deliveries} deliveries, {}/{calls} whole, {:.0}/s  {} {}",
            "█".repeat(cells),
            "░".repeat(BAR - cells),
            self.calls,
            per_second(self.sent, self.began.elapsed()),
            source.name,
            delivery.kind
        ));
    }

    /// Draws a line that does not wrap, since only one line is drawn over.
    fn draw(&self, line: &str) {
        let width = crossterm::terminal::size().map_or(80, |(width, _)| usize::from(width));
        self.console.progress(&cut(line, Some(width.saturating_sub(1))));
    }

    /// Says how it went, in a few lines.
    pub(crate) fn summary(&mut self) {
        self.console.progress("");
        if self.sent == 0 {
            return;
        }
        self.took.sort_unstable();
        let (elapsed, sent) = (self.began.elapsed(), self.sent);
        let deliveries = if sent == 1 { "delivery" } else { "deliveries" };
        let rate = per_second(sent, elapsed);
        let rate = match rate {
            _ if sent == 1 => String::new(),
            ..10.0 => format!(" ({rate:.1}/s)"),
            _ => format!(" ({rate:.0}/s)"),
        };
        let statuses: Vec<String> = self
            .statuses
            .iter()
            .map(|(status, count)| match status {
                Some(status) => format!("{count} × {status}"),
                None => format!("{count} unanswered"),
            })
            .collect();
        self.console.say(format!(
            "{sent} {deliveries} in {:.1} s{}: {}",
            elapsed.as_secs_f64(),
            rate,
            statuses.join(", ")
        ));
        if self.took.len() > 1 {
            let ms = |share: f64| self.percentile(share).as_secs_f64() * 1000.0;
            let (median, most, longest) = (ms(0.5), ms(0.99), ms(1.0));
            self.console.say(format!("  answers: p50 {median:.1} ms, p99 {most:.1} ms, longest {longest:.1} ms"));
        }
        let notes = [
            (self.lost as usize, "lost on the way and sent again"),
            (self.copies, "sent twice at the same time"),
            (self.differing, "copies answered otherwise than the first"),
            (self.retries as usize, "tries answered with a request to come later, or not at all"),
        ];
        let notes: Vec<String> =
            notes.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        if !notes.is_empty() {
            self.console.say(format!("  {}", notes.join("; ")));
        }
        if let Some(first) = self.first_wrong.as_ref().filter(|_| !self.diff) {
            self.console.say(format!("  first wrong answer: {first}"));
        }
    }

    fn percentile(&self, share: f64) -> Duration {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let place = ((self.took.len() as f64 * share).ceil() as usize).clamp(1, self.took.len().max(1)) - 1;
        self.took.get(place).copied().unwrap_or_default()
    }

    /// The exit code. Where a diff was asked for, other answers are a failed check, and shown as one.
    pub(crate) fn exit(&self, expect: &Expect) -> Result {
        let wrong: usize = self.wrong.values().map(|(count, _)| count).sum();
        if wrong == 0 {
            return Ok(Exit::Ok);
        }
        if !self.diff {
            let deliveries = if wrong == 1 { "delivery was" } else { "deliveries were" };
            return Err(Failure::error(format!("{wrong} {deliveries} refused")));
        }
        for (said, (count, first)) in &self.wrong {
            self.console.warn(format!("answers that were not expected, {count} of them, the first to {first}:"));
            self.console.bare(format!("  - {expect}"));
            self.console.bare(format!("  + {said}"));
        }
        let answers = if wrong == 1 { "answer was" } else { "answers were" };
        Err(Failure::new(Exit::CheckFailed, format!("{wrong} {answers} not as expected ({expect})")))
    }
}

fn per_second(count: usize, elapsed: Duration) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let count = count as f64;
    count / elapsed.as_secs_f64().max(0.001)
}

/// A delivery and what became of it, as NDJSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind_of_line: &'static str,
    source: &'a str,
    round: usize,
    number: usize,
    route: WebhookRoute,
    kind: &'a str,
    bytes: usize,
    status: Option<u16>,
    expected: bool,
    attempts: u32,
    /// How often it was lost on the way before.
    lost: u32,
    ms: f64,
    /// As it came; a text where it was no JSON.
    answer: Option<Box<RawValue>>,
    /// The status of the copy's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy_status: Option<u16>,
}

fn line(source: &Source, job: Job, delivery: &Delivery, sent: &Sent, number: usize) -> String {
    let outcome = &sent.outcome;
    let line = Line {
        kind_of_line: "delivery",
        source: &source.name,
        round: job.round + 1,
        number,
        route: delivery.route,
        kind: &delivery.kind,
        bytes: delivery.body.len(),
        status: outcome.status,
        expected: outcome.is_expected && sent.copy.as_ref().is_none_or(|copy| copy.is_expected),
        attempts: outcome.attempts,
        lost: sent.lost,
        ms: (outcome.took.as_secs_f64() * 1e6).round() / 1e3,
        answer: serde_json::from_str(&outcome.answer).or_else(|_| to_raw_value(&outcome.answer)).ok(),
        copy_status: sent.copy.as_ref().and_then(|copy| copy.status),
    };
    serde_json::to_string(&line).unwrap_or_default()
}
