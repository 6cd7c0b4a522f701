//! Makes one attempt to send a delivery to the target.

use std::fmt;
use std::time::Duration;

use callscope_common::api::{DeliveryView, Verdict, WebhookRoute};
use url::Url;

use super::Target;
use super::fetch::RawDelivery;
use crate::exit::{Failure, Result};
use crate::secret::Secret;
use crate::webhook::{HttpClient, Unanswered, headers};

/// Longest `Retry-After` of a target that is respected.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);
/// How many bytes of an answer are read.
const MAX_ANSWER_BYTES: usize = 4 << 10;

/// Sends deliveries to one target.
#[derive(Debug)]
pub(crate) struct TargetClient {
    client: HttpClient,
    target: Target,
    /// If present, deliveries are signed with it instead of carrying the sender's signature.
    secret: Option<Secret>,
}

/// The outcome of one attempt.
pub(crate) struct Answer {
    /// `None` if the target did not answer.
    pub(crate) status: Option<u16>,
    /// The beginning of the answer, or why there was none.
    pub(crate) text: String,
    /// The `Retry-After` of the answer, at most [`MAX_RETRY_AFTER`].
    pub(crate) retry_after: Option<Duration>,
    /// Whether the target may have received the delivery, even if it did not answer.
    pub(crate) may_have_arrived: bool,
}

impl Answer {
    /// Returns whether the status allows a retry.
    pub(crate) fn is_retryable(&self) -> bool {
        matches!(self.status, Some(408 | 425 | 429 | 500..))
    }
}

impl TargetClient {
    /// Makes a client whose requests fail after `timeout`.
    pub(crate) fn new(target: Target, secret: Option<Secret>, timeout: Duration) -> Result<Self> {
        let url = target.url(Some(WebhookRoute::Transcription));
        let url = url.ok_or_else(|| Failure::usage(format!("{target} is no URL")))?;
        Ok(Self { client: HttpClient::to(&url, timeout)?, target, secret })
    }

    /// Returns the URL for a delivery; `None` if `{route}` cannot be replaced by its route.
    pub(crate) fn url(&self, view: &DeliveryView) -> Option<Url> {
        self.target.url(view.route.known())
    }

    /// Sends a delivery to `url`. `may_be_repeat` says that an earlier attempt may have reached the target.
    pub(crate) async fn send(
        &self,
        url: Url,
        view: &DeliveryView,
        delivery: &RawDelivery,
        attempt: u32,
        may_be_repeat: bool,
    ) -> Answer {
        let mut headers = headers::map(headers::forwardable(&delivery.headers));
        if let Some(secret) = &self.secret {
            headers::sign(&mut headers, secret, &delivery.body);
        }
        let added_headers = added_headers(view, attempt, may_be_repeat);
        headers.extend(headers::map(added_headers.iter().map(|(name, value)| (*name, value.as_str()))));
        let answer = match self.client.post(url, headers, delivery.body.clone()).await {
            Ok(answer) => answer,
            Err(Unanswered { diagnosis, may_have_arrived }) => {
                return Answer { status: None, text: diagnosis.problem, retry_after: None, may_have_arrived };
            }
        };
        let (status, retry_after) = (Some(answer.status), answer.retry_after.map(|wait| wait.min(MAX_RETRY_AFTER)));
        let text = match &answer.redirect {
            Some(to) => format!("it redirects to {to}, which is not followed; forward to that URL"),
            None => answer.beginning(MAX_ANSWER_BYTES).await,
        };
        Answer { status, text, retry_after, may_have_arrived: true }
    }
}

impl fmt::Display for TargetClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

/// Returns the headers that are added to those of the delivery.
fn added_headers(view: &DeliveryView, attempt: u32, may_be_repeat: bool) -> Vec<(&'static str, String)> {
    let mut added_headers = vec![
        ("Callscope-Delivery-Id", view.delivery_id.to_string()),
        ("Callscope-Verdict", view.verdict.to_string()),
        ("Callscope-Attempt", attempt.to_string()),
    ];
    let duplicate = duplicate(view, may_be_repeat);
    if !duplicate.is_empty() {
        added_headers.push(("Callscope-Duplicate", duplicate));
    }
    added_headers
}

/// Returns why the target may have received a delivery before; empty if it has not.
pub(crate) fn duplicate(view: &DeliveryView, may_be_repeat: bool) -> String {
    let received = (view.verdict == Verdict::Duplicate).then_some("received-again");
    let sent = may_be_repeat.then_some("sent-again");
    [received, sent].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
