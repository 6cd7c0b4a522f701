//! Lists, explains and logs refused webhooks.
//!
//! Strangers can cause this work at no cost, so it is bounded, and no response waits for it. A separate thread looks
//! for the likely cause of a few refusals a second. The log gets some lines a second and a count of the other refusals.

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

/// Maximum number of refused attempts in the list. The oldest are dropped first.
const MAX_ATTEMPTS: usize = 1_000;
/// Maximum number of refusals that wait for an explanation. Further refusals are not explained.
const QUEUE_LEN: usize = 16;
/// Maximum number of refusals that are explained a second in the long run, so that a flood takes only part of a core.
const EXPLANATIONS_PER_SECOND: u32 = 5;
/// Maximum number of refusals that are explained in a burst.
const EXPLANATION_BURST: u32 = 20;
/// Maximum number of refusals that are logged a second. Further refusals are counted in one line.
const LINES_PER_SECOND: u64 = 50;
const SECOND: Duration = Duration::from_secs(1);

/// Remembers refused webhooks.
#[derive(Debug)]
pub(super) struct Refusals {
    shared: Arc<RefusalState>,
    /// `None` if no thread could be started; then no refusal is explained.
    queue: Option<SyncSender<UnexplainedRefusal>>,
    explanation_tokens: Mutex<TokenBucket<EXPLANATIONS_PER_SECOND, EXPLANATION_BURST>>,
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
    /// How many attempts there were in all. This is also the number of the next one.
    total: u64,
}

/// A refusal that waits for an explanation.
#[derive(Debug)]
struct UnexplainedRefusal {
    number: u64,
    webhook: WebhookRequest,
    at: Timestamp,
    refusal: SignatureRefusal,
}

impl Refusals {
    /// Starts with an empty list, and starts the thread that explains refusals. The thread ends when this is dropped.
    pub fn new(verifier: Arc<SignatureVerifier>) -> Self {
        let shared =
            Arc::new(RefusalState { list: Mutex::default(), lines: Mutex::new(LineLimit::new(Instant::now())) });
        let (queue, unexplained) = sync_channel(QUEUE_LEN);
        let state = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("diagnosis".into());
        let started = thread.spawn(move || state.explain_all(&verifier, &unexplained));
        if let Err(error) = &started {
            warn!(%error, "cannot start the thread that explains refused webhooks");
        }
        let explanation_tokens = Mutex::new(TokenBucket::new(Instant::now()));
        Self { shared, queue: started.is_ok().then_some(queue), explanation_tokens }
    }

    /// Returns the listed attempts, the newest first, and how many there were in all.
    pub fn attempts(&self) -> (Vec<Attempt>, u64) {
        let list = self.shared.list.lock();
        (list.attempts.iter().rev().cloned().collect(), list.total)
    }

    /// Lists and logs a webhook that was refused for its headers.
    pub fn record_header_refusal(
        &self,
        webhook: &WebhookRequest,
        at: Timestamp,
        refusal: SignatureRefusal,
        cause: Option<String>,
    ) {
        self.shared.list.lock().add(webhook, at, refusal, cause.clone());
        self.shared.log(webhook, refusal, cause.as_deref());
    }

    /// Lists a webhook whose signature does not fit its body. It is logged when the thread has explained it, or at once
    /// if it will not be explained.
    pub fn record_body_refusal(&self, webhook: WebhookRequest, at: Timestamp, refusal: SignatureRefusal) {
        let number = self.shared.list.lock().add(&webhook, at, refusal, None);
        let unexplained = UnexplainedRefusal { number, webhook, at, refusal };
        let unexplained = match &self.queue {
            Some(queue) if SignatureVerifier::may_explain(&unexplained.webhook.body) && self.take_token() => {
                match queue.try_send(unexplained) {
                    Ok(()) => return,
                    Err(TrySendError::Full(unexplained) | TrySendError::Disconnected(unexplained)) => unexplained,
                }
            }
            _ => unexplained,
        };
        self.shared.log(&unexplained.webhook, refusal, None);
    }

    /// Takes a token for an explanation, if there is one.
    fn take_token(&self) -> bool {
        self.explanation_tokens.lock().take(Instant::now())
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
            route: webhook.route.into(),
            remote_addr: webhook.remote_addr.clone(),
            reason: refusal.reason().into(),
            diagnosis,
            node: String::new(),
        });
        self.total += 1;
        self.total - 1
    }

    /// Returns the attempt with this number, or `None` if it was dropped from the list.
    fn get_mut(&mut self, number: u64) -> Option<&mut Attempt> {
        let first = self.total - self.attempts.len() as u64;
        self.attempts.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
    }
}

impl RefusalState {
    /// Explains and logs queued refusals until the queue is closed.
    fn explain_all(&self, verifier: &SignatureVerifier, unexplained: &Receiver<UnexplainedRefusal>) {
        loop {
            let UnexplainedRefusal { number, webhook, at, refusal } = match unexplained.recv_timeout(SECOND) {
                Ok(unexplained) => unexplained,
                Err(RecvTimeoutError::Timeout) => {
                    self.log_suppressed();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let cause = verifier.explain(&webhook.headers, &webhook.body, at);
            if let Some(attempt) = self.list.lock().get_mut(number) {
                attempt.diagnosis.clone_from(&cause);
            }
            self.log(&webhook, refusal, cause.as_deref());
        }
    }

    /// Logs a line, within the limit. It contains nothing that the sender chose.
    fn log(&self, webhook: &WebhookRequest, refusal: SignatureRefusal, cause: Option<&str>) {
        let (may_log, suppressed) = self.lines.lock().admit(Instant::now());
        log_suppressed_count(suppressed);
        if may_log {
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
        warn!(count, "further webhooks were refused and not logged one by one");
    }
}

/// Limits the number of lines a second.
#[derive(Debug)]
struct LineLimit {
    second_began: Instant,
    written: u64,
    suppressed: u64,
}

impl LineLimit {
    fn new(now: Instant) -> Self {
        Self { second_began: now, written: 0, suppressed: 0 }
    }

    /// Returns whether a line may be written, and how many were suppressed in the second that ended.
    fn admit(&mut self, now: Instant) -> (bool, u64) {
        let suppressed = self.next_second(now);
        let may_log = self.written < LINES_PER_SECOND;
        if may_log {
            self.written += 1;
        } else {
            self.suppressed += 1;
        }
        (may_log, suppressed)
    }

    /// Begins the next second if the last one is over, and returns how many lines were suppressed in it.
    fn next_second(&mut self, now: Instant) -> u64 {
        if now.saturating_duration_since(self.second_began) < SECOND {
            return 0;
        }
        std::mem::replace(self, Self::new(now)).suppressed
    }
}

#[cfg(test)]
mod tests {
    use callscope_common::api::WebhookRoute;

    use super::*;

    fn webhook() -> WebhookRequest {
        WebhookRequest { route: WebhookRoute::PostCall, remote_addr: None, headers: Vec::new(), body: Vec::new() }
    }

    #[test]
    fn lines_beyond_the_limit_of_a_second_are_counted() {
        let start = Instant::now();
        let mut lines = LineLimit::new(start);
        let written = (0..1_000).filter(|_| lines.admit(start).0).count();
        assert_eq!(written, 50);
        assert_eq!(lines.next_second(start), 0);
        assert_eq!(lines.admit(start + SECOND), (true, 950));
        assert_eq!(lines.next_second(start + SECOND * 2), 0);
    }

    #[test]
    fn the_list_is_bounded_and_a_dropped_attempt_is_not_found() {
        let mut list = RecentAttempts::default();
        let at = Timestamp::from_unix_secs(1).expect("a time");
        for _ in 0..1_500 {
            list.add(&webhook(), at, SignatureRefusal::Wrong, None);
        }
        assert_eq!((list.attempts.len(), list.total), (MAX_ATTEMPTS, 1_500));
        assert!(list.get_mut(499).is_none() && list.get_mut(1_500).is_none());
        list.get_mut(500).expect("the oldest").diagnosis = Some("x".into());
        list.get_mut(1_499).expect("the newest").diagnosis = Some("y".into());
        let diagnosis = |at: usize| list.attempts[at].diagnosis.as_deref();
        assert_eq!((diagnosis(0), diagnosis(999)), (Some("x"), Some("y")));
    }
}
