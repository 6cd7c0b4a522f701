//! Sends one delivery to the target, once.

use std::time::{Duration, SystemTime};

use callscope_common::api::DeliveryView;
use callscope_common::signature;
use reqwest::Response;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use super::Target;
use super::fetch::Whole;
use crate::client;
use crate::exit::{Failure, Result};
use crate::secret::Secret;

/// Headers of the connection that a delivery came by, which say nothing about the one that it goes by.
const OF_CONNECTION: [&str; 13] = [
    "host",
    "content-length",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "accept-encoding",
];
/// What the server keeps in place of a header that would let somebody in elsewhere.
const HIDDEN: &str = "[hidden]";
/// As much of an answer is looked at.
const MAX_ANSWER: usize = 4 << 10;

/// Sends deliveries to one target.
#[derive(Debug)]
pub struct Courier {
    http: reqwest::Client,
    target: Target,
    /// Signs anew, where there is one.
    secret: Option<Secret>,
    timeout: Duration,
}

/// What came of it.
pub enum Tried {
    /// The target answered.
    Answered {
        /// Its status.
        status: u16,
        /// How long it asked to wait.
        retry_after: Option<Duration>,
        /// The beginning of what it said.
        text: String,
    },
    /// It did not.
    Failed {
        /// In words.
        why: String,
        /// Whether the delivery may have arrived all the same.
        arrived: bool,
    },
}

/// Whether a status says that another try may fare better.
pub fn is_for_now(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..)
}

impl Courier {
    /// To `target`, waiting for an answer for so long.
    pub fn new(target: Target, secret: Option<Secret>, timeout: Duration) -> Result<Self> {
        let url = target.url("transcription").map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Self { http: client::http_client(&url)?, target, secret, timeout })
    }

    /// Sends it. `seen`: the target may have seen it before.
    pub async fn send(&self, view: &DeliveryView, whole: &Whole, attempt: u32, seen: bool) -> Result<Tried> {
        let url = self.target.url(&view.route).map_err(|error| Failure::error(error.to_string()))?;
        let mut headers = self.headers(whole);
        for (name, value) in marks(view, attempt, seen) {
            insert(&mut headers, name, &value);
        }
        let request = self.http.post(url).headers(headers).timeout(self.timeout).body(whole.body.clone());
        Ok(match request.send().await {
            Ok(response) => answered(response).await,
            Err(error) => Tried::Failed { why: client::cause(&error), arrived: !error.is_connect() },
        })
    }

    /// The headers it came with, or another signature among them.
    fn headers(&self, whole: &Whole) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let is_dropped = |name: &str| {
            OF_CONNECTION.iter().any(|dropped| name.eq_ignore_ascii_case(dropped))
                || (self.secret.is_some() && name.eq_ignore_ascii_case(signature::HEADER))
        };
        for (name, value) in whole.headers.iter().filter(|(name, value)| !is_dropped(name) && value != HIDDEN) {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                headers.append(name, value);
            }
        }
        if let Some(secret) = &self.secret {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs());
            let now = i64::try_from(now).unwrap_or(i64::MAX);
            insert(&mut headers, signature::HEADER, &signature::sign(secret.expose().as_bytes(), now, &whole.body));
        }
        headers
    }
}

/// What the target is told beside what was received.
fn marks(view: &DeliveryView, attempt: u32, seen: bool) -> Vec<(&'static str, String)> {
    let mut marks = vec![
        ("Callscope-Delivery-Id", view.delivery_id.to_string()),
        ("Callscope-Verdict", view.verdict.clone()),
        ("Callscope-Attempt", attempt.to_string()),
    ];
    let duplicate = duplicate(view, seen);
    if !duplicate.is_empty() {
        marks.push(("Callscope-Duplicate", duplicate));
    }
    marks
}

/// Why the target may have seen a delivery before; empty where it cannot.
pub fn duplicate(view: &DeliveryView, seen: bool) -> String {
    let received = (view.verdict == "duplicate").then_some("received-again");
    let sent = seen.then_some("sent-again");
    [received, sent].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

async fn answered(mut response: Response) -> Tried {
    let status = response.status().as_u16();
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = header.map(|secs: u64| Duration::from_secs(secs.min(600)));
    let mut body = Vec::new();
    // It has been answered; what else it says is for people.
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend(chunk);
        if body.len() > MAX_ANSWER {
            break;
        }
    }
    body.truncate(MAX_ANSWER);
    Tried::Answered { status, retry_after, text: String::from_utf8_lossy(&body).into_owned() }
}
