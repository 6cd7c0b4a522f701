//! Refused webhooks: listed, explained and logged, within bounds.
//!
//! All of this is work that strangers cause. The response never waits for it: the likely cause is searched on a
//! separate thread for a few refusals at a time, and the log gets a few lines a second and a count of the others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use callscope_common::Timestamp;
use callscope_common::api::Attempt;
use parking_lot::Mutex;
use tracing::warn;

use super::WebhookRequest;
use super::signature::{SignatureRefusal, SignatureVerifier};
use crate::token_bucket::TokenBucket;

/// Maximum number of refused attempts that are remembered; the oldest are forgotten first.
const MAX_ATTEMPTS: usize = 1_000;
/// Maximum number of refusals that wait for an explanation. The causes of further ones are not searched.
const QUEUE: usize = 16;
/// Maximum number of refusals that are explained at once and in a second, so that a flood costs a share of one core.
const EXPLAINED_AT_ONCE: u32 = 20;
const EXPLAINED_A_SECOND: u32 = 5;
/// Maximum number of lines a second. Further refusals are counted in one line.
const LOGGED_A_SECOND: u64 = 50;
const SECOND: Duration = Duration::from_secs(1);

/// Remembers refused webhooks.
#[derive(Debug)]
pub(super) struct Refusals {
    shared: Arc<RefusalState>,
    /// `None` if no thread could be started; then no refusal is explained.
    queue: Option<SyncSender<Explanation>>,
    explanations: Mutex<TokenBucket<EXPLAINED_A_SECOND, EXPLAINED_AT_ONCE>>,
}

#[derive(Debug)]
struct RefusalState {
    list: Mutex<RecentAttempts>,
    lines: Mutex<LineLimit>,
}

/// The newest attempts, with consecutive numbers.
#[derive(Debug, Default)]
struct RecentAttempts {
    attempts: VecDeque<Attempt>,
    /// The number of all attempts so far, which is the number of the next one.
    total: u64,
}

/// A refusal whose cause is to be searched.
#[derive(Debug)]
struct Explanation {
    number: u64,
    webhook: WebhookRequest,
    at: Timestamp,
    refusal: SignatureRefusal,
}

impl Refusals {
    /// Starts with an empty list. The thread that explains ends when this is dropped.
    pub fn new(verifier: Arc<SignatureVerifier>) -> Self {
        let shared =
            Arc::new(RefusalState { list: Mutex::default(), lines: Mutex::new(LineLimit::new(Instant::now())) });
        let (queue, explanations_due) = sync_channel(QUEUE);
        let explainer = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("diagnosis".into());
        let started = thread.spawn(move || explainer.explain(&verifier, &explanations_due));
        if let Err(error) = &started {
            warn!(%error, "the causes of refused webhooks are not searched");
        }
        let explanations = Mutex::new(TokenBucket::new(Instant::now()));
        Self { shared, queue: started.is_ok().then_some(queue), explanations }
    }

    /// Returns the attempts, the newest first, and how many there were in all.
    pub fn listed(&self) -> (Vec<Attempt>, u64) {
        let list = self.shared.list.lock();
        (list.attempts.iter().rev().cloned().collect(), list.total)
    }

    /// Lists a webhook that was refused for its headers.
    pub fn by_header(&self, webhook: &WebhookRequest, at: Timestamp, refusal: SignatureRefusal, cause: Option<String>) {
        self.shared.list.lock().add(webhook, at, refusal, cause.clone());
        self.shared.log(webhook, refusal, cause.as_deref());
    }

    /// Lists a webhook whose signature does not fit its body, and queues the search for the cause.
    pub fn by_body(&self, webhook: WebhookRequest, at: Timestamp, refusal: SignatureRefusal) {
        let number = self.shared.list.lock().add(&webhook, at, refusal, None);
        let explanation = Explanation { number, webhook, at, refusal };
        let left = match &self.queue {
            Some(queue) if SignatureVerifier::may_explain(&explanation.webhook.body) && self.may_explain() => {
                match queue.try_send(explanation) {
                    Ok(()) => return,
                    Err(TrySendError::Full(explanation) | TrySendError::Disconnected(explanation)) => explanation,
                }
            }
            _ => explanation,
        };
        self.shared.log(&left.webhook, refusal, None);
    }

    fn may_explain(&self) -> bool {
        self.explanations.lock().take(Instant::now())
    }
}

impl RecentAttempts {
    /// Adds an attempt and returns its number.
    fn add(
        &mut self,
        webhook: &WebhookRequest,
        at: Timestamp,
        refusal: SignatureRefusal,
        diagnosis: Option<String>,
    ) -> u64 {
        if self.attempts.len() >= MAX_ATTEMPTS {
            self.attempts.pop_front();
        }
        self.attempts.push_back(Attempt {
            at,
            route: webhook.route.as_str().into(),
            remote_addr: webhook.remote_addr.clone(),
            reason: refusal.reason().into(),
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

impl RefusalState {
    /// Explains queued refusals until the queue is closed.
    fn explain(&self, verifier: &SignatureVerifier, explanations_due: &Receiver<Explanation>) {
        loop {
            let explanation = match explanations_due.recv_timeout(SECOND) {
                Ok(explanation) => explanation,
                Err(RecvTimeoutError::Timeout) => {
                    self.log_suppressed();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let cause = verifier.explain(&explanation.webhook.headers, &explanation.webhook.body, explanation.at);
            if let Some(attempt) = self.list.lock().get_mut(explanation.number) {
                attempt.diagnosis.clone_from(&cause);
            }
            self.log(&explanation.webhook, explanation.refusal, cause.as_deref());
        }
    }

    /// Logs one line without anything that the sender chose.
    fn log(&self, webhook: &WebhookRequest, refusal: SignatureRefusal, cause: Option<&str>) {
        let (may, suppressed) = self.lines.lock().admit(Instant::now());
        log_suppressed_count(suppressed);
        if may {
            let (route, reason) = (webhook.route.as_str(), refusal.reason());
            let remote_addr = webhook.remote_addr.as_deref().unwrap_or("unknown");
            warn!(route, remote_addr, reason, cause = cause.unwrap_or("not looked for"), "a webhook was refused");
        }
    }

    fn log_suppressed(&self) {
        let suppressed = self.lines.lock().next_second(Instant::now());
        log_suppressed_count(suppressed);
    }
}

fn log_suppressed_count(count: u64) {
    if count > 0 {
        warn!(count, "more webhooks were refused, which are counted and not logged one by one");
    }
}

/// Bounds the number of lines in a second.
#[derive(Debug)]
struct LineLimit {
    since: Instant,
    written: u64,
    suppressed: u64,
}

impl LineLimit {
    fn new(now: Instant) -> Self {
        Self { since: now, written: 0, suppressed: 0 }
    }

    /// Returns whether a line may be written, and how many were suppressed in the second that ended.
    fn admit(&mut self, now: Instant) -> (bool, u64) {
        let suppressed = self.next_second(now);
        let may = self.written < LOGGED_A_SECOND;
        if may {
            self.written += 1;
        } else {
            self.suppressed += 1;
        }
        (may, suppressed)
    }

    /// Begins the next second if the last one is over, and returns how many lines were suppressed in it.
    fn next_second(&mut self, now: Instant) -> u64 {
        if now.saturating_duration_since(self.since) < SECOND {
            return 0;
        }
        std::mem::replace(self, Self::new(now)).suppressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Route;

    fn webhook() -> WebhookRequest {
        WebhookRequest { route: Route::PostCall, remote_addr: None, headers: Vec::new(), body: Vec::new() }
    }

    #[test]
    fn the_lines_of_a_second_are_bounded_and_the_others_counted() {
        let start = Instant::now();
        let mut lines = LineLimit::new(start);
        let written = (0..1_000).filter(|_| lines.admit(start).0).count();
        assert_eq!(written, 50);
        assert_eq!(lines.next_second(start), 0);
        assert_eq!(lines.admit(start + SECOND), (true, 950));
        assert_eq!(lines.next_second(start + SECOND * 2), 0);
    }

    #[test]
    fn the_list_is_bounded_and_a_forgotten_attempt_is_not_filled_in() {
        let mut list = RecentAttempts::default();
        let at = Timestamp::from_unix_secs(1).expect("a time");
        for _ in 0..1_500 {
            list.add(&webhook(), at, SignatureRefusal::Wrong, None);
        }
        assert_eq!((list.attempts.len(), list.total), (MAX_ATTEMPTS, 1_500));
        assert!(list.get_mut(499).is_none() && list.get_mut(1_500).is_none());
        list.get_mut(500).expect("the oldest").diagnosis = Some("x".into());
        list.get_mut(1_499).expect("the newest").diagnosis = Some("y".into());
        let told = |at: usize| list.attempts[at].diagnosis.as_deref();
        assert_eq!((told(0), told(999)), (Some("x"), Some("y")));
    }
}
