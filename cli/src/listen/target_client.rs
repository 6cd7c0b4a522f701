//! Sends one delivery to the target, once.

use std::fmt;
use std::time::Duration;

use callscope_common::api::{DeliveryView, Verdict, WebhookRoute};
use url::Url;

use super::Target;
use super::fetch::Whole;
use crate::exit::{Failure, Result};
use crate::secret::Secret;
use crate::webhook::{HttpClient, Unanswered, headers};

/// Longest wait that a target may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// As much of an answer is looked at.
const MAX_ANSWER: usize = 4 << 10;

/// Sends deliveries to one target.
#[derive(Debug)]
pub(crate) struct TargetClient {
    client: HttpClient,
    target: Target,
    /// Replaces the sender's signature, where there is one.
    secret: Option<Secret>,
}

/// What came of it.
pub(crate) struct Answer {
    /// `None` where the target did not answer.
    pub(crate) status: Option<u16>,
    /// The beginning of what it said, or why there was no answer.
    pub(crate) text: String,
    /// How long it asked to wait.
    pub(crate) retry_after: Option<Duration>,
    /// Whether the delivery may have arrived, with an answer or without.
    pub(crate) may_have_arrived: bool,
}

impl Answer {
    /// Whether the status says that another try may fare better.
    pub(crate) fn is_for_now(&self) -> bool {
        matches!(self.status, Some(408 | 425 | 429 | 500..))
    }
}

impl TargetClient {
    /// To `target`, waiting for an answer for so long.
    pub(crate) fn new(target: Target, secret: Option<Secret>, timeout: Duration) -> Result<Self> {
        let url = target.url(Some(WebhookRoute::Transcription));
        let url = url.ok_or_else(|| Failure::usage(format!("{target} is no URL")))?;
        Ok(Self { client: HttpClient::to(&url, timeout)?, target, secret })
    }

    /// Where a delivery goes; `None` where the target has no place for its route.
    pub(crate) fn url(&self, view: &DeliveryView) -> Option<Url> {
        self.target.url(view.route.known())
    }

    /// Sends it to `url`. `seen`: the target may have seen it before.
    pub(crate) async fn send(&self, url: Url, view: &DeliveryView, whole: &Whole, attempt: u32, seen: bool) -> Answer {
        let mut headers = headers::map(headers::forwardable(&whole.headers));
        if let Some(secret) = &self.secret {
            headers::sign(&mut headers, secret, &whole.body);
        }
        let marks = marks(view, attempt, seen);
        headers.extend(headers::map(marks.iter().map(|(name, value)| (*name, value.as_str()))));
        let answer = match self.client.post(url, headers, whole.body.clone()).await {
            Ok(answer) => answer,
            Err(Unanswered { diagnosis, may_have_arrived }) => {
                return Answer { status: None, text: diagnosis.problem, retry_after: None, may_have_arrived };
            }
        };
        let (status, retry_after) = (Some(answer.status), answer.retry_after.map(|wait| wait.min(LONGEST_WAIT)));
        let text = match &answer.redirect {
            Some(to) => format!("it redirects to {to}, which is not followed; forward to that URL"),
            None => answer.beginning(MAX_ANSWER).await,
        };
        Answer { status, text, retry_after, may_have_arrived: true }
    }
}

impl fmt::Display for TargetClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

/// What the target is told beside what was received.
fn marks(view: &DeliveryView, attempt: u32, seen: bool) -> Vec<(&'static str, String)> {
    let mut marks = vec![
        ("Callscope-Delivery-Id", view.delivery_id.to_string()),
        ("Callscope-Verdict", view.verdict.to_string()),
        ("Callscope-Attempt", attempt.to_string()),
    ];
    let duplicate = duplicate(view, seen);
    if !duplicate.is_empty() {
        marks.push(("Callscope-Duplicate", duplicate));
    }
    marks
}

/// Why the target may have seen a delivery before; empty where it cannot.
pub(crate) fn duplicate(view: &DeliveryView, seen: bool) -> String {
    let received = (view.verdict == Verdict::Duplicate).then_some("received-again");
    let sent = seen.then_some("sent-again");
    [received, sent].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
