//! Sends a delivery until it is answered.

use std::time::{Duration, SystemTime};

use callscope_common::api::ErrorBody;
use callscope_common::signature;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use tokio::time::{Instant, sleep};
use url::Url;

use super::expect::Expect;
use super::script::Delivery;
use crate::client;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::live::Backoff;
use crate::secret::Secret;

/// How long one delivery is tried,
const PATIENCE: Duration = Duration::from_secs(60);
/// and how long as long as no answer came to any.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Sends webhooks to one server.
#[derive(Debug)]
pub struct Courier {
    http: reqwest::Client,
    server: Url,
    secret: Option<Secret>,
    expect: Expect,
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
}

enum Try {
    Answered(Outcome),
    Again { why: String, wait: Option<Duration>, status: Option<u16> },
}

impl Courier {
    /// To `server`, signing with `secret`. Without `expect`, any 2xx is right.
    pub fn new(server: &Url, secret: Option<Secret>, expect: Option<Expect>, console: Console) -> Result<Self> {
        Ok(Self {
            http: client::http_client(server)?,
            server: server.clone(),
            secret,
            explicit: expect.is_some(),
            expect: expect.unwrap_or_default(),
            console,
            reached: false.into(),
        })
    }

    /// Where deliveries of `delivery`'s kind go.
    pub fn url(&self, delivery: &Delivery) -> Url {
        client::endpoint(&self.server, &["webhooks", "elevenlabs", delivery.route.name()])
    }

    /// Sends `delivery`, again and again while the server is away or asks to come later.
    pub async fn deliver(&self, delivery: &Delivery) -> Outcome {
        let began = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            let sent = Instant::now();
            let (why, wait, status) = match self.attempt(delivery, backoff.attempt() + 1).await {
                Try::Answered(outcome) => return outcome,
                Try::Again { why, wait, status } => (why, wait, status),
            };
            let reached = self.reached.load(std::sync::atomic::Ordering::Relaxed);
            let patience = if reached { PATIENCE } else { FIRST_PATIENCE };
            let wait = backoff.next(wait);
            if began.elapsed() + wait > patience {
                let attempts = backoff.attempt();
                return Outcome { status, answer: why, attempts, took: sent.elapsed(), right: false };
            }
            if backoff.attempt() == 1 {
                let secs = patience.as_secs();
                self.console.say(format!("{} not delivered ({why}); trying again for up to {secs} s", delivery.kind));
            }
            sleep(wait).await;
        }
    }

    /// Sends it once, signed with the present time.
    async fn attempt(&self, delivery: &Delivery, attempts: u32) -> Try {
        let sent = Instant::now();
        let mut request = self.http.post(self.url(delivery)).header(CONTENT_TYPE, "application/json").timeout(TIMEOUT);
        if let Some(secret) = &self.secret {
            let value = signature::sign(secret.expose().as_bytes(), unix_now(), &delivery.body);
            request = request.header(signature::HEADER, value);
        }
        if let Some(key) = &delivery.idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        let response = match request.body(delivery.body.clone()).send().await {
            Ok(response) => response,
            Err(error) => return Try::Again { why: client::cause(&error), wait: None, status: None },
        };
        self.reached.store(true, std::sync::atomic::Ordering::Relaxed);
        let status = response.status().as_u16();
        let right = self.expect.takes(status);
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let answer = match response.text().await {
            Ok(answer) => answer,
            // Committed or not: only the answer to a repeat tells.
            Err(error) => return Try::Again { why: client::cause(&error), wait: None, status: None },
        };
        if matches!(status, 429 | 503) && !right {
            return Try::Again {
                why: said(&answer, status),
                wait: wait.map(Duration::from_secs),
                status: Some(status),
            };
        }
        Try::Answered(Outcome { status: Some(status), answer, attempts, took: sent.elapsed(), right })
    }
}

impl Outcome {
    /// Why it is pointless to send anything more, if it is.
    pub fn fatal(&self, courier: &Courier) -> Option<Failure> {
        match self.status {
            None => Some(client::unreachable(&courier.server, &self.answer)),
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
    match serde_json::from_str::<ErrorBody>(answer) {
        Ok(ErrorBody { message, details: Some(details), .. }) => format!("{message} ({details})"),
        Ok(ErrorBody { message, .. }) => message,
        Err(_) => format!("it answered {status}"),
    }
}

/// The present time in Unix seconds.
pub fn unix_now() -> i64 {
    callscope_common::Timestamp::from_system_time(SystemTime::now()).as_unix_secs()
}
