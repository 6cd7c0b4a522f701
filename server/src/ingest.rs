//! Turns the bytes of a webhook into a change of the log.
//!
//! [`signature`] verifies the raw bytes before anything parses them. [`elevenlabs`] turns the provider's JSON into a
//! [`Change`], which the log writer makes durable.

pub mod elevenlabs;
mod headers;
pub mod naming;
#[cfg(test)]
mod payload_tests;
pub mod receipt;
pub mod recording;
mod refusals;
mod replay;
pub mod signature;

use std::borrow::Cow;
use std::sync::Arc;

use callscope_common::api::{Attempt, WebhookRoute};
use callscope_common::{Timestamp, json};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use crate::clock;
use crate::log::{
    Answer, Change, DedupHash, DedupKey, Delivery, Operation, Outcome, dedup_hash, dedup_hash_at, new_id, turn_hash,
};
use crate::store::{LogWriter, StoreError};
use naming::Naming;
use refusals::Refusals;
pub use replay::Replay;
use signature::{ClaimedSignature, SignatureRefusal, SignatureVerifier};

/// Bytes beyond which a body is large. Verifying and reading it takes milliseconds, so that runs on a blocking thread.
const LARGE_BODY: usize = 1 << 20;
/// Maximum number of large bodies that are read at a time. Reading a recording takes its length in memory once more.
const MAX_LARGE_BODIES: usize = 2;

/// A webhook as it was received, before its body is parsed.
#[derive(Debug)]
pub struct WebhookRequest {
    /// The route that received it.
    pub route: WebhookRoute,
    /// The address of the sender.
    pub remote_addr: Option<String>,
    /// The headers as names and values, in their order.
    pub headers: Vec<(String, String)>,
    /// The body as it was received.
    pub body: Vec<u8>,
}

impl WebhookRequest {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Why a webhook was not accepted.
#[derive(Debug)]
pub enum IngestError {
    /// The signature did not verify.
    Signature(SignatureRefusal),
    /// The storage could not commit it.
    Store(StoreError),
}

/// Verifies webhooks and submits them to the log.
#[derive(Debug)]
pub struct Ingest {
    verifier: Arc<SignatureVerifier>,
    naming: Arc<Naming>,
    log_writer: LogWriter,
    refusals: Refusals,
    large_bodies: Semaphore,
}

impl Ingest {
    /// Accepts the webhooks that `verifier` accepts. `naming` decides which dynamic variables name a call.
    #[must_use]
    pub fn new(verifier: SignatureVerifier, naming: Naming, log_writer: LogWriter) -> Self {
        let verifier = Arc::new(verifier);
        let refusals = Refusals::new(Arc::clone(&verifier));
        Self {
            verifier,
            naming: Arc::new(naming),
            log_writer,
            refusals,
            large_bodies: Semaphore::new(MAX_LARGE_BODIES),
        }
    }

    /// Returns the newest webhooks that did not verify, and how many there were since the process started.
    #[must_use]
    pub fn unverified(&self) -> (Vec<Attempt>, u64) {
        self.refusals.attempts()
    }

    /// Checks the signature header of a webhook, so that the body of a sender without a plausible one is never read.
    ///
    /// # Errors
    /// Returns why the header is refused. The attempt is listed and logged.
    pub fn admit(&self, webhook: &WebhookRequest) -> Result<ClaimedSignature, SignatureRefusal> {
        let now = clock::now();
        self.verifier.check_headers(&webhook.headers, now).inspect_err(|refusal| {
            let cause = self.verifier.explain_headers(&webhook.headers, now);
            self.refusals.record_header_refusal(webhook, now, *refusal, cause);
        })
    }

    /// Verifies a webhook and submits it to the log. Returns the answer once the webhook is durable. `claim` is what
    /// [`admit`](Self::admit) returned for it, and `memory` the body's share of the budget for bodies.
    ///
    /// # Errors
    /// Returns an error if the webhook had no effect.
    pub async fn accept(
        &self,
        webhook: WebhookRequest,
        claim: ClaimedSignature,
        memory: Option<OwnedSemaphorePermit>,
    ) -> Result<Answer, IngestError> {
        let received_at = clock::now();
        let delivery = match self.verify_and_read(webhook, claim, received_at).await? {
            Ok(delivery) => delivery,
            Err((webhook, refusal)) => {
                self.refusals.record_body_refusal(webhook, received_at, refusal);
                return Err(IngestError::Signature(refusal));
            }
        };
        match self.log_writer.submit_with_permit(Operation::Deliver(Box::new(delivery)), memory).await {
            Ok(Outcome::Answered(answer)) => Ok(answer),
            Ok(_) => Err(IngestError::Store(StoreError::Internal("a delivery had an outcome without an answer"))),
            Err(error) => Err(IngestError::Store(error)),
        }
    }

    async fn verify_and_read(
        &self,
        webhook: WebhookRequest,
        claim: ClaimedSignature,
        received_at: Timestamp,
    ) -> Result<Verification, IngestError> {
        if webhook.body.len() <= LARGE_BODY {
            return Ok(verify_and_read(&self.verifier, &self.naming, webhook, &claim, received_at));
        }
        let (verifier, naming) = (Arc::clone(&self.verifier), Arc::clone(&self.naming));
        let _permit = self.large_bodies.acquire().await;
        let verified = spawn_blocking(move || verify_and_read(&verifier, &naming, webhook, &claim, received_at)).await;
        verified.map_err(|_| IngestError::Store(StoreError::Internal("reading a webhook panicked")))
    }
}

/// A delivery, or the webhook that did not verify.
type Verification = Result<Delivery, (WebhookRequest, SignatureRefusal)>;

fn verify_and_read(
    verifier: &SignatureVerifier,
    naming: &Naming,
    webhook: WebhookRequest,
    claim: &ClaimedSignature,
    received_at: Timestamp,
) -> Verification {
    match verifier.verify(claim, &webhook.body, received_at) {
        Ok(signed_at) => Ok(read_delivery(webhook, received_at, signed_at, naming)),
        Err(refusal) => Err((webhook, refusal)),
    }
}

/// Turns a verified webhook into a delivery. A webhook that cannot be read becomes a rejected delivery.
#[must_use]
pub fn read_delivery(
    webhook: WebhookRequest,
    received_at: Timestamp,
    signed_at: Option<i64>,
    naming: &Naming,
) -> Delivery {
    let (kind, change) = match json_text(&webhook) {
        Ok(text) => match webhook.route {
            WebhookRoute::Transcription => elevenlabs::turn(&text),
            WebhookRoute::PostCall => elevenlabs::post_call(&text, naming),
        },
        Err(rejected) => (None, *rejected),
    };
    let body_hash = Sha256::digest(&webhook.body).into();
    let dedup_key = dedup_key(&webhook, &change, received_at, signed_at);
    Delivery {
        delivery_id: new_id(received_at),
        route: webhook.route,
        kind,
        received_at,
        headers: headers::kept_headers(&webhook.headers),
        body_hash,
        idempotency_key: idempotency_key(&webhook, &change),
        dedup_key,
        change,
        remote_addr: webhook.remote_addr,
        body: webhook.body,
    }
}

/// Returns the hash of the sender's `Idempotency-Key`, if it has one. Deliveries are compared by it in addition to the
/// dedup key: the header is not signed, so a different one must not make a repeat take effect.
fn idempotency_key(webhook: &WebhookRequest, change: &Change) -> Option<DedupHash> {
    let key = webhook.header("Idempotency-Key").map(str::trim).filter(|key| !key.is_empty())?;
    // A rejected delivery had no effect, so its corrected repeat may have the same key.
    let has_effect = !matches!(change, Change::Rejected { .. });
    has_effect.then(|| dedup_hash(&[b"idempotency", webhook.route.as_str().as_bytes(), key.as_bytes()]))
}

/// Returns the body as JSON that a strict parser accepts: without a byte order mark, lone surrogates, NaN and Infinity.
fn json_text(webhook: &WebhookRequest) -> Result<Cow<'_, str>, Box<Change>> {
    let is_identity = |encoding: &str| encoding.trim().is_empty() || encoding.trim().eq_ignore_ascii_case("identity");
    let mut encodings = webhook.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Content-Encoding"));
    if encodings.any(|(_, encoding)| !encoding.split(',').all(is_identity)) {
        return Err(Box::new(Change::Rejected {
            status: 415,
            message: "the body has a Content-Encoding".into(),
            details: Some("webhooks are taken as they were signed: send the JSON itself, not compressed".into()),
        }));
    }
    let text = std::str::from_utf8(&webhook.body).map_err(|error| {
        Box::new(Change::Rejected {
            status: 400,
            message: "the body is not JSON".into(),
            details: Some(format!("it is not UTF-8 at byte {}", error.valid_up_to())),
        })
    })?;
    Ok(match json::replace_lone_surrogates(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        Cow::Borrowed(text) => json::replace_not_numbers(text),
        Cow::Owned(text) => Cow::Owned(json::replace_not_numbers(&text).into_owned()),
    })
}

fn dedup_key(webhook: &WebhookRequest, change: &Change, received_at: Timestamp, signed_at: Option<i64>) -> DedupKey {
    let (route, body) = (webhook.route.as_str().as_bytes(), webhook.body.as_slice());
    match change {
        Change::Rejected { .. } => return DedupKey::None,
        Change::Turn(turn)
            if turn.is_final
                && let Some(turn_id) = &turn.turn_id =>
        {
            return DedupKey::Turn(turn_hash(turn.speaker, turn_id));
        }
        _ => {}
    }
    match (webhook.route, signed_at) {
        (WebhookRoute::PostCall, _) => DedupKey::Content(dedup_hash(&[b"content", route, body])),
        // Equal bytes that were signed in the same second have equal signatures, so they are a repeat.
        (WebhookRoute::Transcription, Some(secs)) => DedupKey::Content(dedup_hash_at(secs, &[b"signed", route, body])),
        (WebhookRoute::Transcription, None) => {
            let hash_at = |secs: i64| dedup_hash_at(secs, &[b"unsigned", route, body]);
            let now = received_at.as_unix_secs();
            DedupKey::Unsigned { now: hash_at(now), before: hash_at(now - 1), after: hash_at(now + 1) }
        }
    }
}
