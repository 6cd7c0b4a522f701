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
use crate::telemetry::refusals::{RefusalWindow, Summary};
use crate::token_bucket::TokenBucket;

/// Maximum number of refused attempts in the list. The oldest are dropped first.
const MAX_ATTEMPTS: usize = 1_000;
/// Maximum number of refusals that wait for an explanation. Further refusals are not explained.
const QUEUE_LEN: usize = 16;
/// Maximum number of refusals that are explained a second in the long run, so that a flood takes only part of a core.
const EXPLANATIONS_PER_SECOND: u32 = 5;
/// Maximum number of refusals that are explained in a burst.
const EXPLANATION_BURST: u32 = 20;
/// How often the number of suppressed log lines is logged.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);

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
    /// The limit of the log lines.
    log_limit: Mutex<RefusalWindow>,
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
        let shared = Arc::new(RefusalState { list: Mutex::default(), log_limit: Mutex::new(RefusalWindow::EMPTY) });
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
        diagnosis: Option<String>,
    ) {
        self.shared.list.lock().add(webhook, at, refusal, diagnosis.clone());
        self.shared.log(webhook, refusal, diagnosis.as_deref());
    }

    /// Lists a webhook whose signature does not fit its body. It is logged when the thread has explained it, or at once
    /// if it will not be explained.
    pub fn record_body_refusal(&self, webhook: WebhookRequest, at: Timestamp, refusal: SignatureRefusal) {
        let number = self.shared.list.lock().add(&webhook, at, refusal, None);
        let unexplained = UnexplainedRefusal { number, webhook, at, refusal };
        let unexplained = match &self.queue {
            Some(queue)
                if SignatureVerifier::is_short_enough_to_explain(&unexplained.webhook.body) && self.take_token() =>
            {
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
            let UnexplainedRefusal { number, webhook, at, refusal } = match unexplained.recv_timeout(SUMMARY_INTERVAL) {
                Ok(unexplained) => unexplained,
                Err(RecvTimeoutError::Timeout) => {
                    let summary = self.log_limit.lock().end_if_over(Instant::now());
                    log_summary(summary);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let diagnosis = verifier.explain(&webhook.headers, &webhook.body, at);
            if let Some(attempt) = self.list.lock().get_mut(number) {
                attempt.diagnosis.clone_from(&diagnosis);
            }
            self.log(&webhook, refusal, diagnosis.as_deref());
        }
    }

    /// Logs a line, within the limit. It contains nothing that the sender chose.
    fn log(&self, webhook: &WebhookRequest, refusal: SignatureRefusal, diagnosis: Option<&str>) {
        // All refusals count as one kind, which has no name.
        let (may_log, summary) = self.log_limit.lock().admit(Instant::now(), String::new);
        log_summary(summary);
        if may_log {
            let (route, reason) = (webhook.route.as_str(), refusal.reason());
            let remote_addr = webhook.remote_addr.as_deref().unwrap_or("unknown");
            warn!(route, remote_addr, reason, cause = diagnosis.unwrap_or("not looked for"), "a webhook was refused");
        }
    }
}

fn log_summary(summary: Option<Summary>) {
    if let Some(Summary { refusals: count, .. }) = summary {
        warn!(count, "further webhooks were refused and not logged one by one");
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
