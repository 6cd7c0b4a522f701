//! Sends payloads as webhooks again, signed with the present time and at the pace of the original call.
//!
//! [`source`] loads [payloads](crate::payload), [`work`] lists the jobs, [`mod@script`] schedules the deliveries of a
//! job, [`webhook`](crate::webhook) sends each one until it is answered, [`report`] counts the outcomes, and
//! [`journal`] records them, so that an interrupted replay can be resumed.

mod curl;
mod faults;
mod journal;
mod report;
mod script;
mod source;
mod work;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use crate::clock;
use crate::exit::{Failure, Result};
use crate::render::Console;
use crate::speed::Speed;
use crate::webhook::{Delivery, Outcome, Pace, Sender};
use script::Script;

pub(crate) use curl::commands;
pub(crate) use faults::{Faults, parse_share};
pub(crate) use journal::{Journal, JournalHeader, fingerprint};
pub(crate) use report::Report;
pub(crate) use source::{Source, bodies, from_text, load, read_stdin};
pub(crate) use work::{Job, Work};

/// Maximum time to wait for the answers to deliveries in flight when the replay stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How payloads are sent.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) speed: Speed,
    pub(crate) repeat: u32,
    /// How many sources are sent at the same time.
    pub(crate) concurrency: usize,
    /// Whether each round is a new call, with new identifiers and times.
    pub(crate) fresh: bool,
    /// Whether the turns of a transcript are sent live before the transcript.
    pub(crate) turns: bool,
}

/// Sends every source according to `options`, and reports each outcome to `report`.
///
/// # Errors
/// Returns the failure that ends the replay: there is no answer, or the signature is refused.
#[cfg(feature = "demo")]
pub(crate) async fn run(
    sources: &[Source],
    options: &Options,
    sender: &Sender,
    report: &Mutex<Report>,
    console: Console,
) -> Result<()> {
    let work = Work::new(sources, options.clone());
    let (pace, journal) = (Pace::default(), Mutex::default());
    Replay { work: &work, sender, pace: &pace, journal: &journal, report, console }.run().await
}

/// A running replay.
#[derive(Clone, Copy)]
pub(crate) struct Replay<'r> {
    pub(crate) work: &'r Work<'r>,
    pub(crate) sender: &'r Sender,
    pub(crate) pace: &'r Pace,
    pub(crate) journal: &'r Mutex<Journal>,
    pub(crate) report: &'r Mutex<Report>,
    /// Where warnings go.
    pub(crate) console: Console,
}

/// A delivery that was answered.
pub(crate) struct Sent {
    outcome: Outcome,
    /// The outcome of the duplicate, if the delivery was sent twice.
    copy: Option<Outcome>,
    /// How often the delivery or its answer was lost on purpose.
    lost: u32,
}

impl Replay<'_> {
    /// Sends everything that an earlier run has not sent. Stops early at a fatal failure, or when the pace is stopped.
    ///
    /// # Errors
    /// Returns the failure that ends the replay: there is no answer, or the signature is refused.
    pub(crate) async fn run(self) -> Result<()> {
        let mut failure = None;
        let mut deadline = None;
        let jobs = self.work.jobs();
        let mut running = futures_util::stream::iter(jobs)
            .map(|job| self.send_source(job))
            .buffer_unordered(self.work.options.concurrency);
        loop {
            if self.pace.is_stopped() {
                // Deliveries in flight are awaited, so that a resumed replay does not send them again.
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + STOP_TIMEOUT);
                match timeout_at(deadline, running.next()).await {
                    Ok(Some(done)) => failure = failure.or(done.err()),
                    Ok(None) | Err(_) => break,
                }
                continue;
            }
            tokio::select! {
                done = running.next() => match done {
                    Some(Ok(())) => {}
                    Some(Err(why)) => {
                        failure = Some(why);
                        self.pace.stop();
                    }
                    None => break,
                },
                () = self.pace.stopped() => {}
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Sends one source, from its first delivery to its last.
    async fn send_source(self, job: Job) -> Result<()> {
        if self.pace.is_stopped() {
            return Ok(());
        }
        let source = self.work.source(job);
        let script =
            self.work.script(job, |round, group| lock(self.journal).begin_group(round, group, clock::unix_secs()));
        for warning in &script.warnings {
            self.console.warn(format!("{}: {warning}", source.name));
        }
        let (began, total) = (Instant::now(), script.steps.len());
        // The first step that is sent is due at once: a resumed replay does not repeat the pause before it.
        let mut base = None;
        for (index, step) in script.steps.into_iter().enumerate() {
            if lock(self.journal).is_done(job.number, index) {
                base = None;
                continue;
            }
            let base = *base.get_or_insert(if index == 0 { 0.0 } else { step.at });
            if !self.pace.wait_for_slot(began + self.work.options.speed.wait(step.at - base)).await {
                return Ok(());
            }
            let delivery = step.deliver(&self.work.key(job, index));
            let Some(sent) = self.send_delivery(&delivery, job, index).await else { return Ok(()) };
            let fatal = sent.outcome.fatal_failure(self.sender);
            if fatal.is_none() {
                lock(self.journal).mark_done(job.number, index);
            }
            lock(self.report).add(source, job, &delivery, &sent, (index + 1, total))?;
            if let Some(failure) = fatal {
                return Err(failure);
            }
        }
        lock(self.report).source_done();
        Ok(())
    }

    /// Sends one delivery with its faults; `None` if the replay is stopped meanwhile.
    async fn send_delivery(self, delivery: &Delivery, job: Job, index: usize) -> Option<Sent> {
        let faults = &self.work.faults;
        let mut losses = faults.losses(job.number, index);
        let mut backoff = crate::net::Backoff::default();
        let mut lost = 0;
        while let Some(loss) = losses.next() {
            lost += 1;
            if loss == faults::Loss::Answer {
                self.sender.send_and_lose_answer(delivery).await;
            }
            if !self.pace.sleep_until(Instant::now() + backoff.next(None)).await {
                return None;
            }
        }
        if faults.duplicate {
            let both = tokio::join!(self.sender.deliver(delivery, self.pace), self.sender.deliver(delivery, self.pace));
            return Some(Sent { outcome: both.0?, copy: Some(both.1?), lost });
        }
        Some(Sent { outcome: self.sender.deliver(delivery, self.pace).await?, copy: None, lost })
    }
}

/// Locks `mutex`, also after a panic in another task. Counters and the journal remain usable if an update was cut off.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends the one payload of `source` outside of any replay, and returns the answer as a text for people.
///
/// # Errors
/// Returns an error if there is no answer, or if the signature is refused.
pub(crate) async fn send_one(sender: &Sender, source: &Source, report: &Mutex<Report>) -> Result<String> {
    let nothing = || Failure::error("there is nothing to send");
    let script = Script::new(&source.payloads, script::ScriptOptions::default());
    let delivery = script.steps.into_iter().next().ok_or_else(nothing)?.deliver(&uuid::Uuid::new_v4().to_string());
    let outcome = sender.deliver(&delivery, &Pace::default()).await.ok_or_else(nothing)?;
    if let Some(failure) = outcome.fatal_failure(sender) {
        return Err(failure);
    }
    let words = outcome.summary();
    let sent = Sent { outcome, copy: None, lost: 0 };
    lock(report).add(source, Job::default(), &delivery, &sent, (1, 1))?;
    Ok(words)
}
