//! From a webhook's bytes to the log.
//!
//! [`signature`] decides whether the bytes are to be believed, before anything reads them; [`elevenlabs`] turns the
//! provider's JSON into a [`Change`]; the store makes it durable.

pub mod elevenlabs;
pub mod naming;
#[cfg(test)]
mod payload_tests;
mod replay;
pub mod signature;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use callscope_common::api::Attempt;
use callscope_common::{Timestamp, json};
use parking_lot::Mutex;
use rocket::tokio::sync::OwnedSemaphorePermit;
use sha2::{Digest, Sha256};

use crate::store::append::turn_hash;
use crate::store::ledger::{Answer, Change, Delivery, Key, Op, Outcome, Route, Sameness, key, key_at, new_id};
use crate::store::{Appender, StoreError};
use naming::Naming;
pub use replay::Replay;
use signature::{Checker, Unverified};

/// Most refused attempts remembered; the oldest are forgotten first.
const MAX_ATTEMPTS: usize = 1_000;

/// Refusals whose cause is looked for, at most so many at once and a second: whoever floods the server costs it no more.
const EXPLAINED_AT_ONCE: f64 = 20.0;
const EXPLAINED_A_SECOND: f64 = 5.0;

/// A webhook as it came, nothing read yet.
#[derive(Debug)]
pub struct Incoming {
    /// Which webhook.
    pub route: Route,
    /// Where from.
    pub remote_addr: Option<String>,
    /// Names and values, in their order.
    pub headers: Vec<(String, String)>,
    /// As received.
    pub body: Vec<u8>,
}

impl Incoming {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Why a webhook got no answer of the log.
#[derive(Debug)]
pub enum Refused {
    /// It did not verify.
    Unverified(Unverified),
    /// The storage could not take it.
    Store(StoreError),
}

/// The way in.
#[derive(Debug)]
pub struct Ingest {
    checker: Checker,
    naming: Naming,
    appender: Appender,
    attempts: Mutex<VecDeque<Attempt>>,
    unverified: AtomicU64,
    /// What is left of the explanations, and since when.
    explanations: Mutex<(f64, Instant)>,
}

impl Ingest {
    /// A way in that believes what `checker` believes, and lets calls be named as `naming` says.
    #[must_use]
    pub fn new(checker: Checker, naming: Naming, appender: Appender) -> Self {
        let explanations = Mutex::new((EXPLAINED_AT_ONCE, Instant::now()));
        Self { checker, naming, appender, attempts: Mutex::default(), unverified: AtomicU64::new(0), explanations }
    }

    /// The attempts that did not verify: the newest of them, and how many there were.
    #[must_use]
    pub fn unverified(&self) -> (Vec<Attempt>, u64) {
        (self.attempts.lock().iter().rev().cloned().collect(), self.unverified.load(Ordering::Relaxed))
    }

    /// Takes a webhook in; returns its answer once it is durable. `room` is what the body takes of the memory for bodies.
    ///
    /// # Errors
    /// [`Refused`]; then nothing of it took effect.
    pub async fn accept(&self, incoming: Incoming, room: Option<OwnedSemaphorePermit>) -> Result<Answer, Refused> {
        let received_at = Timestamp::from_system_time(SystemTime::now());
        let header = incoming.header(callscope_common::signature::HEADER);
        let signed_at = match self.checker.check(header, &incoming.body, received_at) {
            Ok(signed_at) => signed_at,
            Err(unverified) => {
                self.remember(&incoming, received_at, unverified);
                return Err(Refused::Unverified(unverified));
            }
        };
        let delivery = read(incoming, received_at, signed_at, &self.naming);
        match self.appender.submit_in(Op::Deliver(Box::new(delivery)), room).await {
            Ok(Outcome::Answered(answer)) => Ok(answer),
            Ok(_) => Err(Refused::Store(StoreError::Damaged("outcome"))),
            Err(error) => Err(Refused::Store(error)),
        }
    }

    fn may_explain(&self) -> bool {
        let (left, since) = &mut *self.explanations.lock();
        *left = (*left + since.elapsed().as_secs_f64() * EXPLAINED_A_SECOND).min(EXPLAINED_AT_ONCE);
        *since = Instant::now();
        let may = *left >= 1.0;
        if may {
            *left -= 1.0;
        }
        may
    }

    fn remember(&self, incoming: &Incoming, at: Timestamp, unverified: Unverified) {
        self.unverified.fetch_add(1, Ordering::Relaxed);
        let diagnosis =
            self.may_explain().then(|| self.checker.explain(&incoming.headers, &incoming.body, at)).flatten();
        let mut attempts = self.attempts.lock();
        if attempts.len() >= MAX_ATTEMPTS {
            attempts.pop_front();
        }
        attempts.push_back(Attempt {
            at,
            route: incoming.route.as_str().into(),
            remote_addr: incoming.remote_addr.clone(),
            reason: unverified.reason().into(),
            diagnosis,
            node: String::new(),
        });
    }
}

/// Reads a verified webhook. Never fails: what cannot be read is a delivery too, a rejected one.
#[must_use]
pub fn read(incoming: Incoming, received_at: Timestamp, signed_at: Option<i64>, naming: &Naming) -> Delivery {
    let (kind, change) = match text(&incoming.body) {
        Ok(text) => match incoming.route {
            Route::Transcription => elevenlabs::turn(&text),
            Route::PostCall => elevenlabs::post_call(&text, naming),
        },
        Err(rejected) => (None, *rejected),
    };
    let body_hash = Sha256::digest(&incoming.body).into();
    let sameness = sameness(&incoming, &change, received_at, signed_at);
    Delivery {
        delivery_id: new_id(received_at),
        route: incoming.route,
        kind,
        received_at,
        headers: kept_headers(&incoming.headers),
        body_hash,
        idempotency_key: idempotency_key(&incoming, &change),
        sameness,
        change,
        remote_addr: incoming.remote_addr,
        body: incoming.body,
    }
}

/// The key of the sender's own `Idempotency-Key`; an empty one is none. It counts beside all other sameness, never in its place: it is
/// not signed, so it cannot make two of one.
fn idempotency_key(incoming: &Incoming, change: &Change) -> Option<Key> {
    let own = incoming.header("Idempotency-Key").map(str::trim).filter(|own| !own.is_empty())?;
    let is_kept = !matches!(change, Change::Rejected { .. });
    is_kept.then(|| key(&[b"idempotency", incoming.route.as_str().as_bytes(), own.as_bytes()]))
}

fn text(body: &[u8]) -> Result<std::borrow::Cow<'_, str>, Box<Change>> {
    let text = std::str::from_utf8(body).map_err(|error| {
        Box::new(Change::Rejected {
            status: 400,
            message: "the body is not JSON".into(),
            details: Some(format!("it is not UTF-8 at byte {}", error.valid_up_to())),
        })
    })?;
    Ok(json::replace_lone_surrogates(text.strip_prefix('\u{feff}').unwrap_or(text)))
}

fn sameness(incoming: &Incoming, change: &Change, received_at: Timestamp, signed_at: Option<i64>) -> Sameness {
    let (route, body) = (incoming.route.as_str().as_bytes(), incoming.body.as_slice());
    match change {
        Change::Rejected { .. } => return Sameness::None,
        Change::Turn(turn)
            if turn.is_final
                && let Some(turn_id) = &turn.turn_id =>
        {
            return Sameness::Turn(turn_hash(turn.speaker, turn_id));
        }
        _ => {}
    }
    match (incoming.route, signed_at) {
        (Route::PostCall, _) => Sameness::Content(key(&[b"content", route, body])),
        // Equal bytes signed at the same time have an equal signature.
        (Route::Transcription, Some(secs)) => Sameness::Content(key_at(secs, &[b"signed", route, body])),
        (Route::Transcription, None) => {
            let at = |secs: i64| key_at(secs, &[b"unsigned", route, body]);
            let secs = received_at.as_unix_secs();
            Sameness::Unsigned { now: at(secs), before: at(secs - 1), after: at(secs + 1) }
        }
    }
}

/// The headers as JSON, without what would let somebody in elsewhere.
fn kept_headers(headers: &[(String, String)]) -> String {
    let hidden =
        |name: &str| ["authorization", "cookie", "proxy-authorization"].iter().any(|h| name.eq_ignore_ascii_case(h));
    let kept: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), if hidden(name) { "[hidden]" } else { value.as_str() }))
        .collect();
    serde_json::to_string(&kept).unwrap_or_else(|_| "[]".into())
}
