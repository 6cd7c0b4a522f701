//! Sends deliveries, and retries those that are not answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use callscope_common::api::WebhookRoute;
use callscope_common::json::Object;
use callscope_common::signature;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use tokio::time::Instant;
use url::Url;

use super::expect::Expect;
use super::pace::Pace;
use super::tamper::{self, Tamper};
use super::target::Target;
use super::{Delivery, HttpClient, Unanswered, headers};
use crate::api::{self, BodyError};
use crate::clock;
use crate::exit::{Exit, Failure, Result};
use crate::net::Backoff;
use crate::net::{self, Diagnosis};
use crate::render::Console;
use crate::secret::Secret;

/// How long a delivery is retried, without the waits that the target asks for with `Retry-After`.
const RETRY_LIMIT: Duration = Duration::from_secs(60);
/// How long a delivery is retried with these waits.
const TOTAL_RETRY_LIMIT: Duration = Duration::from_secs(600);
/// How long a delivery is retried while the target has not answered any delivery yet.
const FIRST_RETRY_LIMIT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest body of a 2xx answer. Many answers may be read at the same time.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Longest body of any other answer.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// How much of the answer of another backend than Callscope is printed.
const MAX_PRINTED_CHARS: usize = 120;

/// Sends webhooks to one target.
#[derive(Debug)]
pub(crate) struct Sender {
    /// For post-call webhooks and for turns, which may go to different servers.
    clients: [HttpClient; 2],
    target: Target,
    secret: Option<Secret>,
    expect: Expect,
    tamper: Option<Tamper>,
    /// Whether the user chose `expect`, by itself or by tampering.
    is_expect_chosen: bool,
    console: Console,
    /// Whether the target has answered any delivery.
    has_answered: AtomicBool,
}

#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// The status of the answer; `None` without an answer.
    pub(crate) status: Option<u16>,
    /// The body of the answer, or why there was none.
    pub(crate) answer: String,
    /// How many times the delivery was sent.
    pub(crate) attempts: u32,
    /// Duration of the last attempt.
    pub(crate) took: Duration,
    /// Whether the status is one that was expected.
    pub(crate) is_expected: bool,
    /// Whether the retries ended without a final answer.
    pub(crate) gave_up: bool,
}

enum Attempt {
    Final(Outcome),
    Retry { why: String, retry_after: Option<Duration>, status: Option<u16> },
}

impl Sender {
    /// A sender to a Callscope server. `secret` signs the deliveries. Without `expect`, any 2xx is expected.
    #[cfg(feature = "demo")]
    pub(crate) fn new(server: &Url, secret: Option<Secret>, expect: Option<Expect>, console: Console) -> Result<Self> {
        Self::to(Target::callscope(server), secret, expect, None, console)
    }

    /// Without `expect`, any 2xx is expected, or any 4xx if the deliveries are tampered with.
    pub(crate) fn to(
        target: Target,
        secret: Option<Secret>,
        expect: Option<Expect>,
        tamper: Option<Tamper>,
        console: Console,
    ) -> Result<Self> {
        let client = |url: &Url| HttpClient::to(url, ANSWER_TIMEOUT);
        let post_call = client(&target.post_call)?;
        let turns =
            target.turns.as_ref().filter(|url| url.origin() != target.post_call.origin()).map(client).transpose()?;
        let turns = turns.unwrap_or_else(|| post_call.clone());
        Ok(Self {
            clients: [post_call, turns],
            target,
            secret,
            is_expect_chosen: expect.is_some() || tamper.is_some(),
            expect: expect
                .unwrap_or_else(|| if tamper.is_some() { Expect::client_errors() } else { Expect::default() }),
            tamper,
            console,
            has_answered: false.into(),
        })
    }

    /// Returns the URL of a route; `None` if the target does not accept turns.
    pub(crate) fn url(&self, route: WebhookRoute) -> Option<&Url> {
        match route {
            WebhookRoute::Transcription => self.target.turns.as_ref(),
            WebhookRoute::PostCall => Some(&self.target.post_call),
        }
    }

    fn client(&self, route: WebhookRoute) -> &HttpClient {
        &self.clients[usize::from(route == WebhookRoute::Transcription)]
    }

    pub(crate) fn expect(&self) -> &Expect {
        &self.expect
    }

    /// Sends `delivery`, and retries while the target does not answer or asks to wait. Returns `None` if `pace` is
    /// stopped meanwhile.
    pub(crate) async fn deliver(&self, delivery: &Delivery, pace: &Pace) -> Option<Outcome> {
        let started = Instant::now();
        // Moves on by the waits that the target asks for, so that they do not count for `limit`.
        let mut counted_from = started;
        let mut backoff = Backoff::default();
        loop {
            let sent = Instant::now();
            let (why, retry_after, status) = match self.attempt(delivery, backoff.attempt() + 1).await {
                Attempt::Final(outcome) => return Some(outcome),
                Attempt::Retry { why, retry_after, status } => (why, retry_after, status),
            };
            let has_answered = self.has_answered.load(Ordering::Relaxed);
            let limit = if has_answered { RETRY_LIMIT } else { FIRST_RETRY_LIMIT };
            let wait = backoff.next(retry_after);
            let is_too_long = started.elapsed() + wait > TOTAL_RETRY_LIMIT;
            if let Some(retry_after) = retry_after.filter(|_| !is_too_long) {
                // A target that asks to wait is running, and it asks so for all deliveries.
                pace.pause(retry_after);
                counted_from += retry_after.max(wait);
            }
            let counted_wait = if retry_after.is_some() { Duration::ZERO } else { wait };
            if is_too_long || counted_from.elapsed() + counted_wait > limit {
                let asked = retry_after
                    .map_or(String::new(), |wait| format!(", and asks to come again in {} s", wait.as_secs()));
                return Some(Outcome {
                    status,
                    answer: format!("{why}{asked}"),
                    attempts: backoff.attempt(),
                    took: sent.elapsed(),
                    is_expected: false,
                    gave_up: true,
                });
            }
            if backoff.attempt() == 1 {
                let when = match retry_after {
                    Some(wait) => format!("it asked to come again in {} s", wait.as_secs()),
                    None => format!("trying again for up to {} s", limit.as_secs()),
                };
                self.console.say(format!("{} not delivered ({why}); {when}", delivery.kind));
            }
            if !pace.sleep_until(Instant::now() + wait).await {
                return None;
            }
        }
    }

    /// Sends a delivery once and ignores the answer, as if it were lost.
    pub(crate) async fn send_and_lose_answer(&self, delivery: &Delivery) {
        let _ = self.attempt(delivery, 1).await;
    }

    /// Sends a delivery once. `attempts` is the number of this attempt.
    async fn attempt(&self, delivery: &Delivery, attempts: u32) -> Attempt {
        let sent = Instant::now();
        // A script for a target that does not accept turns has none, so the other URL is never used for a turn.
        let url = self.url(delivery.route).unwrap_or(&self.target.post_call).clone();
        let (headers, body) = self.request(delivery);
        let response = match self.client(delivery.route).post(url, headers, body).await {
            Ok(response) => response,
            Err(Unanswered { diagnosis, .. }) => return unanswered(diagnosis, attempts, sent.elapsed()),
        };
        self.has_answered.store(true, Ordering::Relaxed);
        let (status, retry_after, redirect) = (response.status, response.retry_after, response.redirect.clone());
        let is_expected = self.expect.contains(status);
        let max_bytes = if (200..300).contains(&status) { MAX_ANSWER_BYTES } else { MAX_ERROR_BYTES };
        let answer = match (redirect, response.body(max_bytes).await) {
            (Some(to), _) => format!("it redirects to {to}, which is not followed; use that URL"),
            (None, Ok(answer)) => String::from_utf8_lossy(&answer).into_owned(),
            (None, Err(BodyError::TooLong)) => {
                let answer = api::too_long("its answer", max_bytes).message;
                let (took, status) = (sent.elapsed(), Some(status));
                return Attempt::Final(Outcome { status, answer, attempts, took, is_expected: false, gave_up: false });
            }
            // Only the answer to a retry tells whether the delivery took effect.
            (None, Err(BodyError::Broken(error))) => {
                return Attempt::Retry { why: net::root_cause(&error), retry_after: None, status: None };
            }
        };
        if matches!(status, 429 | 503) && !is_expected {
            return Attempt::Retry { why: answer_text(&answer, status), retry_after, status: Some(status) };
        }
        let (took, status) = (sent.elapsed(), Some(status));
        Attempt::Final(Outcome { status, answer, attempts, took, is_expected, gave_up: false })
    }

    /// Returns the headers and the body of a delivery: newly signed, or as they were recorded.
    fn request(&self, delivery: &Delivery) -> (HeaderMap, Vec<u8>) {
        if let Some(recorded) = &delivery.headers {
            return (headers::map(headers::sendable(recorded)), delivery.body.clone());
        }
        let mut fields = vec![("Content-Type", "application/json")];
        fields.extend(delivery.idempotency_key.as_deref().map(|key| ("Idempotency-Key", key)));
        let mut headers = headers::map(fields);
        let Some(secret) = &self.secret else { return (headers, delivery.body.clone()) };
        let (value, body) = tamper::sign(secret.expose().as_bytes(), clock::unix_secs(), &delivery.body, self.tamper);
        headers.extend(headers::map([(signature::HEADER, value.as_str())]));
        (headers, body)
    }
}

/// Returns what to do without an answer: a permanent problem is not retried.
fn unanswered(diagnosis: Diagnosis, attempts: u32, took: Duration) -> Attempt {
    if !diagnosis.is_permanent {
        return Attempt::Retry { why: diagnosis.problem, retry_after: None, status: None };
    }
    let answer =
        diagnosis.remedy.map_or(diagnosis.problem.clone(), |remedy| format!("{}; {remedy}", diagnosis.problem));
    Attempt::Final(Outcome { status: None, answer, attempts, took, is_expected: false, gave_up: true })
}

impl Outcome {
    /// Returns the failure if sending further deliveries is pointless.
    pub(crate) fn fatal_failure(&self, sender: &Sender) -> Option<Failure> {
        match self.status {
            None => Some(sender.target.unreachable(&self.answer)),
            Some(status) if self.gave_up => Some(Failure::new(
                Exit::Unreachable,
                format!("{} keeps answering {status}: {}", net::display_url(&sender.target.server), self.answer),
            )),
            Some(401) if !sender.is_expect_chosen => {
                let problem =
                    if sender.secret.is_some() { "the signature was refused" } else { "the webhook was not signed" };
                let answer = answer_text(&self.answer, 401);
                Some(Failure::new(Exit::NotAllowed, format!("{problem}: {answer}")).hint(
                    "give the server's webhook secret: --secret-file FILE, CALLSCOPE_WEBHOOK_SECRET, or run in the folder of its callscope.secrets.toml",
                ))
            }
            Some(_) => None,
        }
    }

    /// Returns the status and the message of the answer, or why there was none.
    pub(crate) fn summary(&self) -> String {
        self.status
            .map_or_else(|| self.answer.clone(), |status| format!("{status} {}", answer_text(&self.answer, status)))
    }
}

/// Returns the message of an error answer of Callscope, or the beginning of any other body, or the reason phrase.
fn answer_text(answer: &str, status: u16) -> String {
    if let Ok(object) = Object::parse(answer)
        && let Some(message) = ["message", "error", "detail"].iter().find_map(|key| object.string(key))
    {
        return object.string("details").map_or(message.clone(), |details| format!("{message} ({details})"));
    }
    let beginning: String = answer.trim().chars().take(MAX_PRINTED_CHARS).collect();
    if !beginning.is_empty() {
        return beginning;
    }
    StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("an empty answer")
        .to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_delivery_is_sent_without_the_headers_that_were_hidden() {
        let server = Url::parse("http://127.0.0.1:9").unwrap();
        let sender = Sender::to(Target::callscope(&server), None, None, None, Console::silent()).unwrap();
        let recorded = [("Authorization", "[hidden]"), ("Content-Type", "text/plain"), ("Host", "calls.example")];
        let recorded = recorded.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let (kind, body) = ("turn".to_owned(), b"{}".to_vec());
        let delivery =
            Delivery { route: WebhookRoute::Transcription, kind, body, idempotency_key: None, headers: Some(recorded) };
        let (headers, _) = sender.request(&delivery);
        assert_eq!(headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["content-type"]);
    }
}
