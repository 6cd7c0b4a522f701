//! From the bytes of a webhook to the log.
//!
//! [`signature`] decides whether the bytes are to be believed, before anything reads them; [`elevenlabs`] turns the
//! provider's JSON into a [`Change`]; the store makes it durable.

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

use callscope_common::api::Attempt;
use callscope_common::{Timestamp, json};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use crate::clock;
use crate::log::turn_hash;
use crate::log::{
    Answer, Change, DedupHash, DedupKey, Delivery, Operation, Outcome, Route, dedup_hash, dedup_hash_at, new_id,
};
use crate::store::{LogWriter, StoreError};
use naming::Naming;
use refusals::Refusals;
pub use replay::Replay;
use signature::{ClaimedSignature, SignatureRefusal, SignatureVerifier};

/// Length in bytes from which a body is verified and read on a blocking thread, because that takes milliseconds or
/// more.
const LARGE: usize = 1 << 20;
/// Maximum number of such bodies at a time, because a recording takes its bytes again while it is read.
const LARGE_CONCURRENCY: usize = 2;

/// A webhook as it was received, before its body is parsed.
#[derive(Debug)]
pub struct WebhookRequest {
    /// The route that received it.
    pub route: Route,
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
    large: Semaphore,
}

impl Ingest {
    /// Accepts webhooks that `verifier` accepts. `naming` decides what names a call.
    #[must_use]
    pub fn new(verifier: SignatureVerifier, naming: Naming, log_writer: LogWriter) -> Self {
        let verifier = Arc::new(verifier);
        let refusals = Refusals::new(Arc::clone(&verifier));
        Self { verifier, naming: Arc::new(naming), log_writer, refusals, large: Semaphore::new(LARGE_CONCURRENCY) }
    }

    /// Returns the newest attempts that did not verify, and how many there were in all.
    #[must_use]
    pub fn unverified(&self) -> (Vec<Attempt>, u64) {
        self.refusals.listed()
    }

    /// Checks the headers of a webhook before its body is read. The body of a sender without a plausible signature is
    /// never read.
    ///
    /// # Errors
    /// Returns [`SignatureRefusal`] and lists the attempt.
    pub fn admit(&self, webhook: &WebhookRequest) -> Result<ClaimedSignature, SignatureRefusal> {
        let now = clock::now();
        self.verifier.check_headers(&webhook.headers, now).inspect_err(|refusal| {
            let cause = self.verifier.explain_headers(&webhook.headers, now);
            self.refusals.by_header(webhook, now, *refusal, cause);
        })
    }

    /// Accepts a webhook whose headers made this claim, and returns the answer once it is durable. `room` is the memory
    /// that the body takes of the budget for bodies.
    ///
    /// # Errors
    /// Returns [`IngestError`]; then the webhook had no effect.
    pub async fn accept(
        &self,
        webhook: WebhookRequest,
        claim: ClaimedSignature,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Answer, IngestError> {
        let received_at = clock::now();
        let delivery = match self.verified(webhook, claim, received_at).await? {
            Ok(delivery) => delivery,
            Err((webhook, refusal)) => {
                self.refusals.by_body(webhook, received_at, refusal);
                return Err(IngestError::Signature(refusal));
            }
        };
        match self.log_writer.submit_with_permit(Operation::Deliver(Box::new(delivery)), room).await {
            Ok(Outcome::Answered(answer)) => Ok(answer),
            Ok(_) => Err(IngestError::Store(StoreError::Internal("a delivery came to an outcome that is no answer"))),
            Err(error) => Err(IngestError::Store(error)),
        }
    }

    async fn verified(
        &self,
        webhook: WebhookRequest,
        claim: ClaimedSignature,
        received_at: Timestamp,
    ) -> Result<Verified, IngestError> {
        if webhook.body.len() <= LARGE {
            return Ok(verify_and_read(&self.verifier, &self.naming, webhook, &claim, received_at));
        }
        let (verifier, naming) = (Arc::clone(&self.verifier), Arc::clone(&self.naming));
        let _turn = self.large.acquire().await;
        let checked = spawn_blocking(move || verify_and_read(&verifier, &naming, webhook, &claim, received_at)).await;
        checked.map_err(|_| IngestError::Store(StoreError::Internal("reading a webhook panicked")))
    }
}

/// A delivery, or the webhook that did not verify.
type Verified = Result<Delivery, (WebhookRequest, SignatureRefusal)>;

fn verify_and_read(
    verifier: &SignatureVerifier,
    naming: &Naming,
    webhook: WebhookRequest,
    claim: &ClaimedSignature,
    received_at: Timestamp,
) -> Verified {
    match verifier.verify(claim, &webhook.body, received_at) {
        Ok(signed_at) => Ok(read_delivery(webhook, received_at, signed_at, naming)),
        Err(refusal) => Err((webhook, refusal)),
    }
}

/// Reads a verified webhook. Never fails: a webhook that cannot be read becomes a rejected delivery.
#[must_use]
pub fn read_delivery(
    webhook: WebhookRequest,
    received_at: Timestamp,
    signed_at: Option<i64>,
    naming: &Naming,
) -> Delivery {
    let (kind, change) = match json_text(&webhook) {
        Ok(text) => match webhook.route {
            Route::Transcription => elevenlabs::turn(&text),
            Route::PostCall => elevenlabs::post_call(&text, naming),
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
        headers: headers::kept(&webhook.headers),
        body_hash,
        idempotency_key: idempotency_key(&webhook, &change),
        dedup_key,
        change,
        remote_addr: webhook.remote_addr,
        body: webhook.body,
    }
}

/// The key of the sender's own `Idempotency-Key`; an empty one is none. It counts beside all other dedup_key, never in
/// its place: it is not signed, so it cannot make two of one.
fn idempotency_key(webhook: &WebhookRequest, change: &Change) -> Option<DedupHash> {
    let own = webhook.header("Idempotency-Key").map(str::trim).filter(|own| !own.is_empty())?;
    let is_kept = !matches!(change, Change::Rejected { .. });
    is_kept.then(|| dedup_hash(&[b"idempotency", webhook.route.as_str().as_bytes(), own.as_bytes()]))
}

/// Returns the body as JSON that a strict parser accepts.
fn json_text(webhook: &WebhookRequest) -> Result<Cow<'_, str>, Box<Change>> {
    let is_plain = |encoding: &str| encoding.trim().is_empty() || encoding.trim().eq_ignore_ascii_case("identity");
    let mut encodings = webhook.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Content-Encoding"));
    if encodings.any(|(_, encoding)| !encoding.split(',').all(is_plain)) {
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
        (Route::PostCall, _) => DedupKey::Content(dedup_hash(&[b"content", route, body])),
        // Equal bytes signed at the same time have an equal signature.
        (Route::Transcription, Some(secs)) => DedupKey::Content(dedup_hash_at(secs, &[b"signed", route, body])),
        (Route::Transcription, None) => {
            let at = |secs: i64| dedup_hash_at(secs, &[b"unsigned", route, body]);
            let secs = received_at.as_unix_secs();
            DedupKey::Unsigned { now: at(secs), before: at(secs - 1), after: at(secs + 1) }
        }
    }
}
