//! Payloads back into webhooks: signed with the present time, at the call's own pace.
//!
//! [`source`] finds [payloads](crate::payload), [`work`] makes of them what is to be sent, [`mod@script`] says what is
//! sent when, [`webhook`](crate::webhook) sends it until it is answered, [`report`] tells of it, and [`journal`]
//! remembers it, so that what was interrupted can go on.

mod chance;
mod curl;
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

pub(crate) use chance::{Mischief, share};
pub(crate) use curl::commands;
pub(crate) use journal::{Asked, Journal, fingerprint};
pub(crate) use report::Report;
pub(crate) use source::{Source, bodies, from_text, load, read_stdin};
pub(crate) use work::{Job, Work};

/// How long deliveries that are under way may take to be answered once the replay is to stop.
const GRACE: Duration = Duration::from_secs(5);

/// How payloads are sent.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) speed: Speed,
    pub(crate) repeat: u32,
    /// How many sources at once.
    pub(crate) concurrency: usize,
    /// Whether as another call each time.
    pub(crate) fresh: bool,
    /// Whether transcripts are spoken live first.
    pub(crate) turns: bool,
}

/// Sends every source as `options` say. Outcomes go to `report` as they come.
///
/// # Errors
/// Returns the failure that makes going on pointless: there is no answer, or the signature is refused.
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

/// A replay under way.
#[derive(Clone, Copy)]
pub(crate) struct Replay<'r> {
    /// What is sent.
    pub(crate) work: &'r Work<'r>,
    /// Who sends it.
    pub(crate) sender: &'r Sender,
    pub(crate) pace: &'r Pace,
    /// What was sent.
    pub(crate) journal: &'r Mutex<Journal>,
    /// What became of it.
    pub(crate) report: &'r Mutex<Report>,
    /// Where warnings go.
    pub(crate) console: Console,
}

/// A delivery that was answered.
pub(crate) struct Sent {
    outcome: Outcome,
    /// The answer to its copy.
    copy: Option<Outcome>,
    /// How often it was lost on the way.
    lost: u32,
}

impl Replay<'_> {
    /// Sends everything that was not sent before, until it is done, pointless, or to stop.
    ///
    /// # Errors
    /// Returns the failure that makes going on pointless: there is no answer, or the signature is refused.
    pub(crate) async fn run(self) -> Result<()> {
        let mut failure = None;
        let mut deadline = None;
        let jobs = self.work.jobs();
        let mut running =
            futures_util::stream::iter(jobs).map(|job| self.speak(job)).buffer_unordered(self.work.options.concurrency);
        loop {
            if self.pace.is_stopped() {
                // What is under way is heard to its end, so that it need not be sent again.
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + GRACE);
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
    async fn speak(self, job: Job) -> Result<()> {
        if self.pace.is_stopped() {
            return Ok(());
        }
        let source = self.work.source(job);
        let script = self.work.script(job, |round, group| lock(self.journal).began(round, group, clock::unix_secs()));
        for warning in &script.warnings {
            self.console.warn(format!("{}: {warning}", source.name));
        }
        let (began, total) = (Instant::now(), script.steps.len());
        // A call that was interrupted goes on where it was, not after the pause that lies before it.
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
            let Some(sent) = self.send(&delivery, job, index).await else { return Ok(()) };
            let fatal = sent.outcome.fatal_failure(self.sender);
            if fatal.is_none() {
                lock(self.journal).add(job.number, index);
            }
            lock(self.report).add(source, job, &delivery, &sent, (index + 1, total))?;
            if let Some(failure) = fatal {
                return Err(failure);
            }
        }
        lock(self.report).whole();
        Ok(())
    }

    /// Sends one delivery, with all that is to go wrong on its way; `None` when told to stop meanwhile.
    async fn send(self, delivery: &Delivery, job: Job, index: usize) -> Option<Sent> {
        let mischief = &self.work.mischief;
        let mut losses = mischief.losses(job.number, index);
        let mut backoff = crate::net::Backoff::default();
        let mut lost = 0;
        while let Some(loss) = losses.next() {
            lost += 1;
            if loss == chance::Loss::Answer {
                self.sender.send_and_lose_answer(delivery).await;
            }
            if !self.pace.sleep_until(Instant::now() + backoff.next(None)).await {
                return None;
            }
        }
        if mischief.duplicate {
            let both = tokio::join!(self.sender.deliver(delivery, self.pace), self.sender.deliver(delivery, self.pace));
            return Some(Sent { outcome: both.0?, copy: Some(both.1?), lost });
        }
        Some(Sent { outcome: self.sender.deliver(delivery, self.pace).await?, copy: None, lost })
    }
}

/// What another part of the program left in the middle of something is still good enough to count and to remember.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends the one payload of `source` as it is, outside of any replay; what it was answered, in words.
///
/// # Errors
/// Returns an error if there is no answer, or if the signature is refused.
pub(crate) async fn send_one(sender: &Sender, source: &Source, report: &Mutex<Report>) -> Result<String> {
    let nothing = || Failure::error("there is nothing to send");
    let script = Script::new(&source.payloads, script::Style::default());
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
