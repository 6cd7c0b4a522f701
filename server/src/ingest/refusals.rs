//! Webhooks that were refused: listed, explained and logged, within bounds.
//!
//! All of this is work done for strangers. The answer never waits for it: the likely cause is looked for on a thread of its own,
//! of a few refusals at a time, and the log takes a few lines a second and a count of the others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use callscope_common::Timestamp;
use callscope_common::api::Attempt;
use parking_lot::Mutex;
use tracing::warn;

use super::Incoming;
use super::signature::{Checker, Unverified};

/// Most refused attempts remembered; the oldest are forgotten first.
const MAX_ATTEMPTS: usize = 1_000;
/// Most refusals that wait for their explanation; of further ones the cause is not looked for.
const QUEUE: usize = 16;
/// Refusals whose cause is looked for, at most so many at once and a second: a flood costs a share of one core.
const EXPLAINED_AT_ONCE: f64 = 20.0;
const EXPLAINED_A_SECOND: f64 = 5.0;
/// Most lines a second; further refusals are counted in a line of their own.
const LOGGED_A_SECOND: u64 = 50;
const SECOND: Duration = Duration::from_secs(1);

/// Remembers what was refused.
#[derive(Debug)]
pub(super) struct Refusals {
    shared: Arc<Shared>,
    /// `None` where no thread could be started: then nothing is explained.
    queue: Option<SyncSender<Job>>,
    /// What is left of the explanations, and since when.
    explanations: Mutex<(f64, Instant)>,
}

#[derive(Debug)]
struct Shared {
    list: Mutex<List>,
    lines: Mutex<Lines>,
}

/// The newest attempts. Their numbers follow one another.
#[derive(Debug, Default)]
struct List {
    attempts: VecDeque<Attempt>,
    /// How many there were in all: the number of the next one.
    total: u64,
}

/// A refusal whose cause is to be found.
#[derive(Debug)]
struct Job {
    number: u64,
    incoming: Incoming,
    at: Timestamp,
    unverified: Unverified,
}

impl Refusals {
    /// Remembers nothing yet. The thread that explains ends when this is dropped.
    pub fn new(checker: Arc<Checker>) -> Self {
        let shared = Arc::new(Shared { list: Mutex::default(), lines: Mutex::new(Lines::new(Instant::now())) });
        let (queue, jobs) = sync_channel(QUEUE);
        let explainer = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("diagnosis".into());
        let started = thread.spawn(move || explainer.explain(&checker, &jobs));
        if let Err(error) = &started {
            warn!(%error, "the causes of refused webhooks are not looked for");
        }
        let explanations = Mutex::new((EXPLAINED_AT_ONCE, Instant::now()));
        Self { shared, queue: started.is_ok().then_some(queue), explanations }
    }

    /// The newest first, and how many there were.
    pub fn listed(&self) -> (Vec<Attempt>, u64) {
        let list = self.shared.list.lock();
        (list.attempts.iter().rev().cloned().collect(), list.total)
    }

    /// Lists a refusal for what its headers alone tell.
    pub fn by_header(&self, incoming: &Incoming, at: Timestamp, unverified: Unverified, cause: Option<String>) {
        self.shared.list.lock().add(incoming, at, unverified, cause.clone());
        self.shared.log(incoming, unverified, cause.as_deref());
    }

    /// Lists a refusal for a signature that does not fit the body, and has its cause looked for.
    pub fn by_body(&self, incoming: Incoming, at: Timestamp, unverified: Unverified) {
        let number = self.shared.list.lock().add(&incoming, at, unverified, None);
        let job = Job { number, incoming, at, unverified };
        let left = match &self.queue {
            Some(queue) if Checker::may_explain(&job.incoming.body) && self.may_explain() => {
                match queue.try_send(job) {
                    Ok(()) => return,
                    Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => job,
                }
            }
            _ => job,
        };
        self.shared.log(&left.incoming, unverified, None);
    }

    fn may_explain(&self) -> bool {
        let (left, since) = &mut *self.explanations.lock();
        *left = (*left + since.elapsed().as_secs_f64() * EXPLAINED_A_SECOND).min(EXPLAINED_AT_ONCE);
        *since = Instant::now();
        let may = *left >= 1.0;
        if may {
            *left -= 1.0;
        }
        may
    }
}

impl List {
    /// Adds one; returns its number.
    fn add(&mut self, incoming: &Incoming, at: Timestamp, unverified: Unverified, diagnosis: Option<String>) -> u64 {
        if self.attempts.len() >= MAX_ATTEMPTS {
            self.attempts.pop_front();
        }
        self.attempts.push_back(Attempt {
            at,
            route: incoming.route.as_str().into(),
            remote_addr: incoming.remote_addr.clone(),
            reason: unverified.reason().into(),
            diagnosis,
            node: String::new(),
        });
        self.total += 1;
        self.total - 1
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Attempt> {
        let first = self.total - self.attempts.len() as u64;
        self.attempts.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
    }
}

impl Shared {
    /// Explains what comes until nobody can send any more.
    fn explain(&self, checker: &Checker, jobs: &Receiver<Job>) {
        loop {
            let job = match jobs.recv_timeout(SECOND) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    self.say_what_was_left_out();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let cause = checker.explain(&job.incoming.headers, &job.incoming.body, job.at);
            if let Some(attempt) = self.list.lock().get_mut(job.number) {
                attempt.diagnosis.clone_from(&cause);
            }
            self.log(&job.incoming, job.unverified, cause.as_deref());
        }
    }

    /// One line, of nothing that the sender chose.
    fn log(&self, incoming: &Incoming, unverified: Unverified, cause: Option<&str>) {
        let (may, left_out) = self.lines.lock().take(Instant::now());
        note_left_out(left_out);
        if may {
            let (route, reason) = (incoming.route.as_str(), unverified.reason());
            let remote_addr = incoming.remote_addr.as_deref().unwrap_or("unknown");
            warn!(route, remote_addr, reason, cause = cause.unwrap_or("not looked for"), "a webhook was refused");
        }
    }

    fn say_what_was_left_out(&self) {
        let left_out = self.lines.lock().turn(Instant::now());
        note_left_out(left_out);
    }
}

fn note_left_out(count: u64) {
    if count > 0 {
        warn!(count, "more webhooks were refused, which are counted and not logged one by one");
    }
}

/// Bounds the lines of a second.
#[derive(Debug)]
struct Lines {
    since: Instant,
    written: u64,
    left_out: u64,
}

impl Lines {
    fn new(now: Instant) -> Self {
        Self { since: now, written: 0, left_out: 0 }
    }

    /// Whether a line may be written, and how many were left out in the second that ended.
    fn take(&mut self, now: Instant) -> (bool, u64) {
        let left_out = self.turn(now);
        let may = self.written < LOGGED_A_SECOND;
        if may {
            self.written += 1;
        } else {
            self.left_out += 1;
        }
        (may, left_out)
    }

    /// Begins another second where the last one is over; returns how many lines were left out in it.
    fn turn(&mut self, now: Instant) -> u64 {
        if now.saturating_duration_since(self.since) < SECOND {
            return 0;
        }
        std::mem::replace(self, Self::new(now)).left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Route;

    fn incoming() -> Incoming {
        Incoming { route: Route::PostCall, remote_addr: None, headers: Vec::new(), body: Vec::new() }
    }

    #[test]
    fn the_lines_of_a_second_are_bounded_and_the_others_counted() {
        let start = Instant::now();
        let mut lines = Lines::new(start);
        let written = (0..1_000).filter(|_| lines.take(start).0).count();
        assert_eq!(written, 50);
        assert_eq!(lines.turn(start), 0);
        assert_eq!(lines.take(start + SECOND), (true, 950));
        assert_eq!(lines.turn(start + SECOND * 2), 0);
    }

    #[test]
    fn the_list_is_bounded_and_a_forgotten_attempt_is_not_filled_in() {
        let mut list = List::default();
        let at = Timestamp::from_unix_secs(1).expect("a time");
        for _ in 0..1_500 {
            list.add(&incoming(), at, Unverified::Wrong, None);
        }
        assert_eq!((list.attempts.len(), list.total), (MAX_ATTEMPTS, 1_500));
        assert!(list.get_mut(499).is_none() && list.get_mut(1_500).is_none());
        list.get_mut(500).expect("the oldest").diagnosis = Some("x".into());
        list.get_mut(1_499).expect("the newest").diagnosis = Some("y".into());
        let told = |at: usize| list.attempts[at].diagnosis.as_deref();
        assert_eq!((told(0), told(999)), (Some("x"), Some("y")));
    }
}
