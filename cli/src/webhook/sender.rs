//! Sends a delivery until it is answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
use super::{Delivery, HttpClient, Route, Unanswered, headers};
use crate::api::{self, Unread};
use crate::clock;
use crate::exit::{Exit, Failure, Result};
use crate::net::Backoff;
use crate::net::{self, Diagnosis};
use crate::render::Console;
use crate::secret::Secret;

/// How long one delivery is tried, beyond what the target itself asks to wait,
const PATIENCE: Duration = Duration::from_secs(60);
/// and how long in all where it keeps asking.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// and how long as long as no answer came to any.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer taken, in bytes. Many may be under way at one time.
const LONGEST: usize = 1 << 20;
/// Longest answer taken that says no, in bytes.
const LONGEST_REFUSAL: usize = 64 << 10;
/// So much of another backend's answer is shown, in characters.
const SHOWN: usize = 120;

/// Sends webhooks to one target.
#[derive(Debug)]
pub(crate) struct Sender {
    /// To where post-call webhooks go and to where turns go, which may be different servers.
    clients: [HttpClient; 2],
    target: Target,
    secret: Option<Secret>,
    expect: Expect,
    tamper: Option<Tamper>,
    /// Whether the user said which answers are right.
    explicit: bool,
    console: Console,
    reached: AtomicBool,
}

/// What became of a delivery.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// The answer's status; `None` where there was no answer.
    pub(crate) status: Option<u16>,
    /// The answer's body, or why there was none.
    pub(crate) answer: String,
    /// How often it was sent.
    pub(crate) attempts: u32,
    /// How long the last try took.
    pub(crate) took: Duration,
    /// Whether that is what was expected.
    pub(crate) right: bool,
    /// Whether the target was away for too long, so that this was never really answered.
    pub(crate) gave_up: bool,
}

enum Try {
    Answered(Outcome),
    Again { why: String, wait: Option<Duration>, status: Option<u16> },
}

impl Sender {
    /// To the Callscope server at `server`, signing with `secret`. Without `expect`, any 2xx is right.
    #[cfg(feature = "demo")]
    pub(crate) fn new(server: &Url, secret: Option<Secret>, expect: Option<Expect>, console: Console) -> Result<Self> {
        Self::to(Target::callscope(server), secret, expect, None, console)
    }

    /// To `target`. Without `expect`, any 2xx is right, and of what is tampered with any refusal.
    pub(crate) fn to(
        target: Target,
        secret: Option<Secret>,
        expect: Option<Expect>,
        tamper: Option<Tamper>,
        console: Console,
    ) -> Result<Self> {
        let client = |url: &Url| HttpClient::to(url, TIMEOUT);
        let post_call = client(&target.post_call)?;
        let turns =
            target.turns.as_ref().filter(|url| url.origin() != target.post_call.origin()).map(client).transpose()?;
        let turns = turns.unwrap_or_else(|| post_call.clone());
        Ok(Self {
            clients: [post_call, turns],
            target,
            secret,
            explicit: expect.is_some() || tamper.is_some(),
            expect: expect.unwrap_or_else(|| if tamper.is_some() { Expect::refusals() } else { Expect::default() }),
            tamper,
            console,
            reached: false.into(),
        })
    }

    /// Where deliveries of this route go; `None` where the target takes none.
    pub(crate) fn url(&self, route: Route) -> Option<&Url> {
        match route {
            Route::Turn => self.target.turns.as_ref(),
            Route::PostCall => Some(&self.target.post_call),
        }
    }

    fn client(&self, route: Route) -> &HttpClient {
        &self.clients[usize::from(route == Route::Turn)]
    }

    /// Which answers are right.
    pub(crate) fn expect(&self) -> &Expect {
        &self.expect
    }

    /// Sends `delivery`, again and again while the target is away or asks to come later; `None` when told to stop
    /// meanwhile.
    pub(crate) async fn deliver(&self, delivery: &Delivery, pace: &Pace) -> Option<Outcome> {
        let first = Instant::now();
        let mut began = first;
        let mut backoff = Backoff::default();
        loop {
            let sent = Instant::now();
            let (why, asked, status) = match self.attempt(delivery, backoff.attempt() + 1).await {
                Try::Answered(outcome) => return Some(outcome),
                Try::Again { why, wait, status } => (why, wait, status),
            };
            let reached = self.reached.load(Ordering::Relaxed);
            let patience = if reached { PATIENCE } else { FIRST_PATIENCE };
            let wait = backoff.next(asked);
            let too_long = first.elapsed() + wait > LONGEST_WAIT;
            if let Some(asked) = asked.filter(|_| !too_long) {
                // A target that says when to come again is not away, and its answer holds for all that is to be sent.
                pace.hold(asked);
                began += asked.max(wait);
            }
            if too_long || began.elapsed() + if asked.is_some() { Duration::ZERO } else { wait } > patience {
                let asked =
                    asked.map_or(String::new(), |asked| format!(", and asks to come again in {} s", asked.as_secs()));
                return Some(Outcome {
                    status,
                    answer: format!("{why}{asked}"),
                    attempts: backoff.attempt(),
                    took: sent.elapsed(),
                    right: false,
                    gave_up: true,
                });
            }
            if backoff.attempt() == 1 {
                let when = match asked {
                    Some(asked) => format!("it asked to come again in {} s", asked.as_secs()),
                    None => format!("trying again for up to {} s", patience.as_secs()),
                };
                self.console.say(format!("{} not delivered ({why}); {when}", delivery.kind));
            }
            if !pace.until(Instant::now() + wait).await {
                return None;
            }
        }
    }

    /// Sends it once, and does not listen to the answer.
    pub(crate) async fn lose(&self, delivery: &Delivery) {
        let _ = self.attempt(delivery, 1).await;
    }

    /// Sends it once: signed with the present time, or as it came.
    async fn attempt(&self, delivery: &Delivery, attempts: u32) -> Try {
        let sent = Instant::now();
        // Where turns are not taken the script has none.
        let url = self.url(delivery.route).unwrap_or(&self.target.post_call).clone();
        let (headers, body) = self.request(delivery);
        let response = match self.client(delivery.route).post(url, headers, body).await {
            Ok(response) => response,
            Err(Unanswered { diagnosis, .. }) => return unanswered(diagnosis, attempts, sent.elapsed()),
        };
        self.reached.store(true, Ordering::Relaxed);
        let (status, wait, redirect) = (response.status, response.retry_after, response.redirect.clone());
        let right = self.expect.takes(status);
        let longest = if (200..300).contains(&status) { LONGEST } else { LONGEST_REFUSAL };
        let answer = match (redirect, response.body(longest).await) {
            (Some(to), _) => format!("it redirects to {to}, which is not followed; use that URL"),
            (None, Ok(answer)) => String::from_utf8_lossy(&answer).into_owned(),
            (None, Err(Unread::TooLong)) => {
                let answer = api::too_long("its answer", longest).message;
                let (took, status) = (sent.elapsed(), Some(status));
                return Try::Answered(Outcome { status, answer, attempts, took, right: false, gave_up: false });
            }
            // Committed or not: only the answer to a repeat tells.
            (None, Err(Unread::Broken(error))) => {
                return Try::Again { why: net::root_cause(&error), wait: None, status: None };
            }
        };
        if matches!(status, 429 | 503) && !right {
            return Try::Again { why: said(&answer, status), wait, status: Some(status) };
        }
        let (took, status) = (sent.elapsed(), Some(status));
        Try::Answered(Outcome { status, answer, attempts, took, right, gave_up: false })
    }

    /// The headers and the body of a delivery: signed with the present time, or as they came.
    fn request(&self, delivery: &Delivery) -> (HeaderMap, Vec<u8>) {
        if let Some(recorded) = &delivery.headers {
            return (headers::map(headers::sendable(recorded)), delivery.body.clone());
        }
        let mut own = vec![("Content-Type", "application/json")];
        own.extend(delivery.idempotency_key.as_deref().map(|key| ("Idempotency-Key", key)));
        let mut headers = headers::map(own);
        let Some(secret) = &self.secret else { return (headers, delivery.body.clone()) };
        let (value, body) = tamper::sign(secret.expose().as_bytes(), clock::unix_secs(), &delivery.body, self.tamper);
        headers.extend(headers::map([(signature::HEADER, value.as_str())]));
        (headers, body)
    }
}

/// There was no answer. What does not pass by waiting is not tried again.
fn unanswered(diagnosis: Diagnosis, attempts: u32, took: Duration) -> Try {
    if !diagnosis.is_permanent {
        return Try::Again { why: diagnosis.problem, wait: None, status: None };
    }
    let answer =
        diagnosis.remedy.map_or(diagnosis.problem.clone(), |remedy| format!("{}; {remedy}", diagnosis.problem));
    Try::Answered(Outcome { status: None, answer, attempts, took, right: false, gave_up: true })
}

impl Outcome {
    /// Why it is pointless to send anything more, if it is.
    pub(crate) fn fatal(&self, sender: &Sender) -> Option<Failure> {
        match self.status {
            None => Some(sender.target.unreachable(&self.answer)),
            Some(status) if self.gave_up => Some(Failure::new(
                Exit::Unreachable,
                format!("{} keeps answering {status}: {}", net::display_url(&sender.target.server), self.answer),
            )),
            Some(401) if !sender.explicit => {
                let signed =
                    if sender.secret.is_some() { "the signature was refused" } else { "the webhook was not signed" };
                let said = said(&self.answer, 401);
                Some(Failure::new(Exit::NotAllowed, format!("{signed}: {said}")).hint(
                    "give the server's webhook secret: --secret-file FILE, CALLSCOPE_WEBHOOK_SECRET, or run where its callscope.secrets.toml lies",
                ))
            }
            Some(_) => None,
        }
    }

    /// What the server said, in words.
    pub(crate) fn words(&self) -> String {
        self.status.map_or_else(|| self.answer.clone(), |status| format!("{status} {}", said(&self.answer, status)))
    }
}

fn said(answer: &str, status: u16) -> String {
    if let Ok(object) = Object::parse(answer)
        && let Some(message) = ["message", "error", "detail"].iter().find_map(|key| object.string(key))
    {
        return object.string("details").map_or(message.clone(), |details| format!("{message} ({details})"));
    }
    // Another backend: the beginning of whatever it says.
    let beginning: String = answer.trim().chars().take(SHOWN).collect();
    if !beginning.is_empty() {
        return beginning;
    }
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("no words").to_owned()
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
        let delivery = Delivery { route: Route::Turn, kind, body, idempotency_key: None, headers: Some(recorded) };
        let (headers, _) = sender.request(&delivery);
        assert_eq!(headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["content-type"]);
    }
}
