//! The report of a replay: a line of NDJSON for each delivery, progress on stderr, and a summary.

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

/// Minimum time between two redraws of the progress line.
const MIN_REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum number of unexpected answers that are shown one by one. The summary counts the others.
const MAX_SHOWN_WRONG: usize = 5;
/// Maximum number of deliveries that are compared with the server's list, because a page of that list has no more.
const MAX_COMPARED_DELIVERIES: usize = 500;
/// Width of the progress bar, in cells.
const BAR_CELLS: usize = 24;

/// Counts outcomes and reports each one as it arrives.
pub(crate) struct Report {
    console: Console,
    ndjson: Option<Output>,
    began: Instant,
    drawn: Option<Instant>,
    expected: Expected,
    /// Whether unexpected answers are shown as a diff at the end.
    diff: bool,
    sent: usize,
    calls: usize,
    copies: usize,
    differing_copies: usize,
    lost: u32,
    retries: u32,
    durations: Vec<Duration>,
    statuses: BTreeMap<Option<u16>, usize>,
    /// The unexpected answers: for each text, how often it came and the first delivery that got it.
    wrong: BTreeMap<String, (usize, String)>,
    first_wrong: Option<String>,
    /// Route and body length of each answered delivery, up to one more than [`MAX_COMPARED_DELIVERIES`].
    shapes: Vec<(WebhookRoute, usize)>,
}

/// The totals that progress is measured against.
#[derive(Debug, Clone, Copy, Default)]
struct Expected {
    deliveries: usize,
    /// Deliveries that earlier runs of the same replay have sent.
    before: usize,
    calls: usize,
}

impl Report {
    /// Reports to `console`, and also to `ndjson` if it is given.
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
            differing_copies: 0,
            lost: 0,
            retries: 0,
            durations: Vec::new(),
            statuses: BTreeMap::new(),
            wrong: BTreeMap::new(),
            first_wrong: None,
            shapes: Vec::new(),
        }
    }

    /// With `diff`, unexpected answers are shown as a diff at the end instead of one by one.
    pub(crate) fn with_diff(mut self, diff: bool) -> Self {
        self.diff = diff;
        self
    }

    /// Sets the totals: `deliveries` from `calls` sources, of which an earlier run has sent `before` deliveries.
    pub(crate) fn expect(&mut self, deliveries: usize, before: usize, calls: usize) {
        self.expected = Expected { deliveries, before, calls };
    }

    /// Reports a delivery. `place` is its number within its source, and the number of deliveries of that source.
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
        if self.shapes.len() <= MAX_COMPARED_DELIVERIES {
            self.shapes.push((delivery.route, delivery.body.len()));
        }
        let same = sent.copy.as_ref().map(|copy| (copy.status, &copy.answer) == (outcome.status, &outcome.answer));
        self.copies += usize::from(same.is_some());
        self.differing_copies += usize::from(same == Some(false));
        for outcome in std::iter::once(outcome).chain(&sent.copy) {
            self.count(source, delivery, outcome, place.0);
        }
        self.progress(source, delivery, place);
        if let Some(ndjson) = &mut self.ndjson {
            ndjson.write(&Safe::json_line(&report_line(source, job, delivery, sent, place.0)))?;
        }
        Ok(())
    }

    fn count(&mut self, source: &Source, delivery: &Delivery, outcome: &Outcome, number: usize) {
        self.retries += outcome.attempts.saturating_sub(1);
        self.durations.push(outcome.took);
        *self.statuses.entry(outcome.status).or_default() += 1;
        if outcome.is_expected || outcome.gave_up {
            return;
        }
        let what = format!("{}: {} (delivery {number})", source.name, delivery.kind);
        let told: usize = self.wrong.values().map(|(count, _)| count).sum();
        if self.diff {
            self.console.debug(format!("{what} was answered {}", outcome.summary()));
        } else if told < MAX_SHOWN_WRONG {
            self.console.warn(format!("{what} was answered {}", outcome.summary()));
        } else if told == MAX_SHOWN_WRONG {
            self.console.warn("further unexpected answers are counted and reported at the end");
        }
        self.first_wrong.get_or_insert_with(|| format!("{what} was answered {}", outcome.summary()));
        self.wrong.entry(outcome.summary()).or_insert((0, what)).0 += 1;
    }

    /// Returns route and body length of all deliveries; `None` if there are too many, or one was sent more than once.
    pub(crate) fn shapes(&self) -> Option<Vec<(WebhookRoute, usize)>> {
        let is_once = self.copies == 0 && self.lost == 0 && self.retries == 0;
        (is_once && (1..=MAX_COMPARED_DELIVERIES).contains(&self.shapes.len())).then(|| self.shapes.clone())
    }

    /// Counts a source whose deliveries were all sent.
    pub(crate) fn source_done(&mut self) {
        self.calls += 1;
    }

    fn progress(&mut self, source: &Source, delivery: &Delivery, (number, total): (usize, usize)) {
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < MIN_REDRAW_INTERVAL) {
            return;
        }
        self.drawn = Some(Instant::now());
        let Expected { deliveries, before, calls } = self.expected;
        if calls <= 1 {
            return self.draw(&format!("{} {number}/{total} {}", source.name, delivery.kind));
        }
        let done = before + self.sent;
        let cells = (done * BAR_CELLS).checked_div(deliveries).unwrap_or(0).min(BAR_CELLS);
        self.draw(&format!(
            "{}{} {done}/{deliveries} deliveries, {}/{calls} whole, {:.0}/s  {} {}",
            "█".repeat(cells),
            "░".repeat(BAR_CELLS - cells),
            self.calls,
            per_second(self.sent, self.began.elapsed()),
            source.name,
            delivery.kind
        ));
    }

    /// Draws `line`, cut to the width of the terminal: the next progress line overwrites only one row.
    fn draw(&self, line: &str) {
        let width = crossterm::terminal::size().map_or(80, |(width, _)| usize::from(width));
        self.console.progress(&cut(line, Some(width.saturating_sub(1))));
    }

    /// Prints the summary.
    pub(crate) fn summary(&mut self) {
        self.console.progress("");
        if self.sent == 0 {
            return;
        }
        self.durations.sort_unstable();
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
        if self.durations.len() > 1 {
            let ms = |share: f64| self.percentile(share).as_secs_f64() * 1000.0;
            let (median, most, longest) = (ms(0.5), ms(0.99), ms(1.0));
            self.console.say(format!("  answers: p50 {median:.1} ms, p99 {most:.1} ms, longest {longest:.1} ms"));
        }
        let notes = [
            (self.lost as usize, "lost on the way and sent again"),
            (self.copies, "sent twice at the same time"),
            (self.differing_copies, "copies answered differently from the first"),
            (self.retries as usize, "attempts that were told to retry later, or got no answer"),
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
        let place = ((self.durations.len() as f64 * share).ceil() as usize).clamp(1, self.durations.len().max(1)) - 1;
        self.durations.get(place).copied().unwrap_or_default()
    }

    /// Returns the exit code. With a diff, unexpected answers are printed and count as a failed check.
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

/// The line of NDJSON for a delivery.
#[derive(Serialize)]
struct ReportLine<'a> {
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
    /// How often the delivery or its answer was lost on purpose.
    lost: u32,
    ms: f64,
    /// The answer's body: its JSON as it came, or a string if it is not JSON.
    answer: Option<Box<RawValue>>,
    /// The status of the copy's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy_status: Option<u16>,
}

fn report_line(source: &Source, job: Job, delivery: &Delivery, sent: &Sent, number: usize) -> String {
    let outcome = &sent.outcome;
    let line = ReportLine {
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
