//! Sends a delivery until it is answered.

use std::time::{Duration, SystemTime};

use callscope_common::json::Object;
use callscope_common::signature;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use tokio::time::Instant;
use url::Url;

use super::expect::Expect;
use super::pace::Pace;
use super::tamper::{self, Tamper};
use super::target::Target;
use crate::api::{self, Unread};
use crate::exit::{Exit, Failure, Result};
use crate::net::{self, Route as Way};
use crate::render::Console;
use crate::replay::{Delivery, Route};
use crate::secret::Secret;
use crate::stream::Backoff;

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

/// Headers that belong to the connection a delivery came over, not to the delivery.
const OF_THE_CONNECTION: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "accept-encoding",
];

/// Sends webhooks to one target.
#[derive(Debug)]
pub struct Courier {
    /// The ways to where post-call webhooks go and to where turns go, which may be different servers.
    ways: [(Way, reqwest::Client); 2],
    target: Target,
    secret: Option<Secret>,
    expect: Expect,
    tamper: Option<Tamper>,
    /// Whether the user said which answers are right.
    explicit: bool,
    console: Console,
    reached: std::sync::atomic::AtomicBool,
}

/// What became of a delivery.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The answer's status; `None` where there was no answer.
    pub status: Option<u16>,
    /// The answer's body, or why there was none.
    pub answer: String,
    /// How often it was sent.
    pub attempts: u32,
    /// How long the last try took.
    pub took: Duration,
    /// Whether that is what was expected.
    pub right: bool,
    /// Whether the target was away for too long, so that this was never really answered.
    pub gave_up: bool,
}

enum Try {
    Answered(Outcome),
    Again { why: String, wait: Option<Duration>, status: Option<u16> },
}

impl Courier {
    /// To the Callscope server at `server`, signing with `secret`. Without `expect`, any 2xx is right.
    #[cfg(feature = "demo")]
    pub fn new(server: &Url, secret: Option<Secret>, expect: Option<Expect>, console: Console) -> Result<Self> {
        Self::to(Target::callscope(server), secret, expect, None, console)
    }

    /// To `target`. Without `expect`, any 2xx is right, and of what is tampered with any refusal.
    pub fn to(
        target: Target,
        secret: Option<Secret>,
        expect: Option<Expect>,
        tamper: Option<Tamper>,
        console: Console,
    ) -> Result<Self> {
        let way = |url: &Url| Way::to(url).and_then(|way| Ok((way.clone(), way.client()?)));
        let post_call = way(&target.post_call)?;
        let turns =
            target.turns.as_ref().filter(|url| url.origin() != target.post_call.origin()).map(way).transpose()?;
        let turns = turns.unwrap_or_else(|| post_call.clone());
        Ok(Self {
            ways: [post_call, turns],
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
    pub fn url(&self, route: Route) -> Option<&Url> {
        match route {
            Route::Turn => self.target.turns.as_ref(),
            Route::PostCall => Some(&self.target.post_call),
        }
    }

    fn way(&self, route: Route) -> &(Way, reqwest::Client) {
        &self.ways[usize::from(route == Route::Turn)]
    }

    /// Which answers are right.
    pub fn expect(&self) -> &Expect {
        &self.expect
    }

    /// Sends `delivery`, again and again while the target is away or asks to come later; `None` when told to stop meanwhile.
    pub async fn deliver(&self, delivery: &Delivery, pace: &Pace) -> Option<Outcome> {
        let first = Instant::now();
        let mut began = first;
        let mut backoff = Backoff::default();
        loop {
            let sent = Instant::now();
            let (why, asked, status) = match self.attempt(delivery, backoff.attempt() + 1).await {
                Try::Answered(outcome) => return Some(outcome),
                Try::Again { why, wait, status } => (why, wait, status),
            };
            let reached = self.reached.load(std::sync::atomic::Ordering::Relaxed);
            let patience = if reached { PATIENCE } else { FIRST_PATIENCE };
            let wait = backoff.next(asked);
            let too_long = first.elapsed() + wait > LONGEST_WAIT;
            if let Some(asked) = asked.filter(|_| !too_long) {
                // Whoever says when to come again is not away, and it holds for all that is to be sent.
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
    pub async fn lose(&self, delivery: &Delivery) {
        let _ = self.attempt(delivery, 1).await;
    }

    /// Sends it once: signed with the present time, or as it came.
    async fn attempt(&self, delivery: &Delivery, attempts: u32) -> Try {
        let sent = Instant::now();
        // Where turns are not taken the script has none.
        let url = self.url(delivery.route).unwrap_or(&self.target.post_call).clone();
        let response = match self.request(url, delivery).send().await {
            Ok(response) => response,
            Err(error) => return self.unanswered(delivery.route, &error, attempts, sent.elapsed()).await,
        };
        self.reached.store(true, std::sync::atomic::Ordering::Relaxed);
        let status = response.status().as_u16();
        let right = self.expect.takes(status);
        let wait = retry_after(response.headers());
        let redirected = net::redirected(response.status(), response.headers());
        let longest = if response.status().is_success() { LONGEST } else { LONGEST_REFUSAL };
        let answer = match (redirected, api::body(response, longest).await) {
            (Some(to), _) => format!("it redirects to {to}, which is not followed; use that URL"),
            (None, Ok(answer)) => String::from_utf8_lossy(&answer).into_owned(),
            (None, Err(Unread::TooLong)) => {
                let answer = api::too_long("its answer", longest).message;
                let (took, status) = (sent.elapsed(), Some(status));
                return Try::Answered(Outcome { status, answer, attempts, took, right: false, gave_up: false });
            }
            // Committed or not: only the answer to a repeat tells.
            (None, Err(Unread::Broken(error))) => {
                return Try::Again { why: crate::net::cause(&error), wait: None, status: None };
            }
        };
        if matches!(status, 429 | 503) && !right {
            return Try::Again { why: said(&answer, status), wait, status: Some(status) };
        }
        let (took, status) = (sent.elapsed(), Some(status));
        Try::Answered(Outcome { status, answer, attempts, took, right, gave_up: false })
    }

    /// There was no answer. What does not pass by waiting is not tried again.
    async fn unanswered(&self, route: Route, error: &reqwest::Error, attempts: u32, took: Duration) -> Try {
        let trouble = self.way(route).0.trouble(error).await;
        if !trouble.is_lasting {
            return Try::Again { why: trouble.what, wait: None, status: None };
        }
        let answer = trouble.remedy.map_or(trouble.what.clone(), |remedy| format!("{}; {remedy}", trouble.what));
        Try::Answered(Outcome { status: None, answer, attempts, took, right: false, gave_up: true })
    }

    fn request(&self, url: Url, delivery: &Delivery) -> reqwest::RequestBuilder {
        let mut request = self.way(delivery.route).1.post(url).timeout(TIMEOUT);
        if let Some(headers) = &delivery.headers {
            let own = |name: &str| !OF_THE_CONNECTION.contains(&name.to_ascii_lowercase().as_str());
            for (name, value) in headers.iter().filter(|(name, _)| own(name)) {
                request = request.header(name, value);
            }
            return request.body(delivery.body.clone());
        }
        request = request.header(CONTENT_TYPE, "application/json");
        if let Some(key) = &delivery.idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        let Some(secret) = &self.secret else { return request.body(delivery.body.clone()) };
        let (value, body) = tamper::sign(secret.expose().as_bytes(), unix_now(), &delivery.body, self.tamper);
        request.header(signature::HEADER, value).body(body)
    }
}

/// How long an answer asks to wait: in seconds, or until a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(secs) = value.parse() {
        return Some(Duration::from_secs(secs));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    Some(until.duration_since(SystemTime::now()).unwrap_or_default())
}

impl Outcome {
    /// Why it is pointless to send anything more, if it is.
    pub fn fatal(&self, courier: &Courier) -> Option<Failure> {
        match self.status {
            None => Some(courier.target.unreachable(&self.answer)),
            Some(status) if self.gave_up => Some(Failure::new(
                Exit::Unreachable,
                format!("{} keeps answering {status}: {}", crate::net::shown(&courier.target.server), self.answer),
            )),
            Some(401) if !courier.explicit => {
                let signed =
                    if courier.secret.is_some() { "the signature was refused" } else { "the webhook was not signed" };
                let said = said(&self.answer, 401);
                Some(Failure::new(Exit::NotAllowed, format!("{signed}: {said}")).hint(
                    "give the server's webhook secret: --secret-file FILE, CALLSCOPE_WEBHOOK_SECRET, or run where its callscope.secrets.toml lies",
                ))
            }
            Some(_) => None,
        }
    }

    /// What the server said, in words.
    pub fn words(&self) -> String {
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

/// The present time in Unix seconds.
pub fn unix_now() -> i64 {
    callscope_common::Timestamp::from_system_time(SystemTime::now()).as_unix_secs()
}
