//! Sends one delivery to the target, once.

use std::time::{Duration, SystemTime};

use callscope_common::api::DeliveryView;
use callscope_common::signature;
use reqwest::Response;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use url::Url;

use super::Target;
use super::fetch::Whole;
use crate::exit::{Failure, Result};
use crate::net::{self, Route};
use crate::secret::Secret;

/// Headers that go on to the target, in lower case: what the target needs to read the body and to check who sent it. Everything
/// else stays behind, above all what would let its bearer in, and what says something about the sender's own connection.
const FORWARDED: [&str; 14] = [
    "accept",
    "content-encoding",
    "content-language",
    "content-type",
    "date",
    "digest",
    "content-digest",
    "idempotency-key",
    "traceparent",
    "tracestate",
    "user-agent",
    "webhook-id",
    "x-correlation-id",
    "x-request-id",
];
/// So do headers whose name ends so: the signatures of all providers, and what they sign beside the body.
const FORWARDED_ENDS: [&str; 4] = ["-signature", "-signature-256", "-timestamp", "-message-id"];
/// As much of an answer is looked at.
const MAX_ANSWER: usize = 4 << 10;

/// Sends deliveries to one target.
#[derive(Debug)]
pub struct Courier {
    http: reqwest::Client,
    route: Route,
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
        let url = target.url("transcription").ok_or_else(|| Failure::usage(format!("{target} is no URL")))?;
        let route = Route::to(&url)?;
        Ok(Self { http: route.client()?, route, target, secret, timeout })
    }

    /// Where a delivery goes; `None` where the target has no place for its route.
    pub fn url(&self, view: &DeliveryView) -> Option<Url> {
        self.target.url(&view.route)
    }

    /// Sends it to `url`. `seen`: the target may have seen it before.
    pub async fn send(&self, url: Url, view: &DeliveryView, whole: &Whole, attempt: u32, seen: bool) -> Tried {
        let mut headers = self.headers(whole);
        for (name, value) in marks(view, attempt, seen) {
            insert(&mut headers, name, &value);
        }
        let request = self.http.post(url).headers(headers).timeout(self.timeout).body(whole.body.clone());
        match request.send().await {
            Ok(response) => answered(response).await,
            Err(error) => Tried::Failed { why: self.route.trouble(&error).await.what, arrived: !error.is_connect() },
        }
    }

    /// The headers it came with, or another signature among them.
    fn headers(&self, whole: &Whole) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let goes_on =
            |name: &str| is_forwarded(name) && (self.secret.is_none() || !name.eq_ignore_ascii_case(signature::HEADER));
        for (name, value) in whole.headers.iter().filter(|(name, _)| goes_on(name)) {
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

/// Whether a header of the sender's goes on to the target.
fn is_forwarded(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    FORWARDED.contains(&name.as_str()) || FORWARDED_ENDS.iter().any(|end| name.ends_with(end))
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
    let redirected = net::redirected(response.status(), response.headers());
    let status = response.status().as_u16();
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = header.map(|secs: u64| Duration::from_secs(secs.min(600)));
    if let Some(to) = redirected {
        let text = format!("it redirects to {to}, which is not followed; forward to that URL");
        return Tried::Answered { status, retry_after, text };
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_the_senders_connection_stay_behind() {
        for name in [
            "Content-Type",
            "ElevenLabs-Signature",
            "X-Twilio-Signature",
            "svix-timestamp",
            "Idempotency-Key",
            "User-Agent",
        ] {
            assert!(is_forwarded(name), "{name}");
        }
        for name in [
            "Authorization",
            "Cookie",
            "Origin",
            "Referer",
            "Proxy-Authorization",
            "X-Api-Key",
            "X-Auth-Token",
            "X-Vapi-Secret",
            "X-Forwarded-For",
            "Host",
            "Content-Length",
            "Transfer-Encoding",
            "Connection",
            "Expect",
            "Sec-Fetch-Site",
            "CF-Access-Client-Secret",
            "X-Amz-Security-Token",
            "Set-Cookie",
            "X-HTTP-Method-Override",
            "Callscope-Delivery-Id",
        ] {
            assert!(!is_forwarded(name), "{name}");
        }
    }
}
