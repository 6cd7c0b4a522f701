//! Why a signature does not fit: the likely causes are tried one after the other, and the one that makes it fit is named.
//!
//! This is for the owner of the secrets: `callscope webhook verify --explain` and the admin's view of deliveries. A sender
//! hears nothing of it. Senders' mistakes come in few kinds: the body was parsed and written anew, a line end was added, the
//! secret is another one or has a blank at its end, the clock is off, the scheme is another service's. Each is undone here and
//! the digest computed again, so a cause that is named is proven, not guessed.

mod bodies;
mod headers;
mod keys;
mod search;
mod wording;

pub use crate::json_style::{Separators, Style, Writing};

use super::{HEADER, SignatureHeader};
use bodies::Bodies;
pub use bodies::BodyChange;
use headers::FoundSignature;
pub use headers::Scheme;
pub use keys::KeyChange;
use search::{Match, Search};
pub use wording::{ExplainedCause, Explanation};

/// A request to be explained.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Every header, name and value, as they came.
    pub headers: &'a [(String, String)],
    /// The body as it came.
    pub body: &'a [u8],
    /// When it came, in Unix seconds.
    pub received_at: i64,
    /// How many seconds the signed time may lie back.
    pub tolerance_secs: i64,
    /// The secrets that are known here.
    pub secrets: &'a [KnownSecret<'a>],
    /// How many bytes may be written and hashed in search of the cause.
    pub budget: u64,
}

/// A secret, and what people call it.
#[derive(Clone, Copy)]
pub struct KnownSecret<'a> {
    /// Names it in messages: a file, a setting. Never the secret itself.
    pub label: &'a str,
    /// The secret.
    pub secret: &'a [u8],
    /// Whether the receiver verifies with it. One that is only known besides may turn out to be the one that signed.
    pub in_use: bool,
}

impl std::fmt::Debug for KnownSecret<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownSecret").field("label", &self.label).field("in_use", &self.in_use).finish_non_exhaustive()
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Diagnosis {
    /// The signature is accepted. `remarks` are what stricter receivers would refuse it for.
    Accepted {
        /// [`Cause::UppercaseHex`], [`Cause::Blanks`].
        remarks: Vec<Cause>,
    },
    /// With all of these undone it would be accepted; never empty.
    Explained {
        /// In the order in which they matter.
        causes: Vec<Cause>,
    },
    /// None of the known causes fits.
    Unexplained {
        /// Facts that may lead further, in words.
        hints: Vec<&'static str>,
        /// Whether causes were left untried because the budget was spent.
        unfinished: bool,
    },
}

/// Something between a request and an accepted signature.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// No header holds anything like a signature.
    NoSignature,
    /// The header is there and holds no time, or no digest.
    Malformed {
        /// What is missing.
        what: &'static str,
    },
    /// The signature stands in a header of another name.
    OtherHeader {
        /// That name.
        name: String,
    },
    /// The signature follows another service's scheme.
    OtherScheme(Scheme),
    /// The digest stands under another key than `v0`.
    OtherTag {
        /// That key.
        tag: String,
    },
    /// The digest is written in Base64.
    Base64Digest,
    /// Something else than `<t>.<body>` was signed.
    Signed(Message),
    /// Another body was signed.
    Body(BodyChange),
    /// Another secret signed.
    Secret {
        /// Which of the known ones.
        label: String,
        /// Whether the receiver verifies with that one.
        in_use: bool,
        /// What was done to it.
        change: KeyChange,
    },
    /// The time is in milliseconds.
    Milliseconds,
    /// The time is no whole number of seconds.
    NoWholeSeconds,
    /// The signed time lies too far back.
    TooOld {
        /// So many seconds before the receipt.
        secs: i64,
        /// So many are allowed.
        allowed: i64,
    },
    /// The signed time lies ahead.
    FromTheFuture {
        /// So many seconds after the receipt.
        secs: i64,
    },
    /// Hex in capitals: taken here, refused by receivers that compare texts, as the vendor's SDKs do.
    UppercaseHex,
    /// Blanks around the parts: taken here, refused by the vendor's SDKs.
    Blanks,
}

/// What was put into the HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// `<t>.<body>`: ElevenLabs, Stripe.
    TimeDotBody,
    /// `<id>.<t>.<body>`: Standard Webhooks.
    IdTimeBody,
    /// `v0:<t>:<body>`: Slack.
    VersionTimeBody,
    /// The body alone: GitHub.
    BodyAlone,
    /// `<t><body>`.
    TimeBody,
    /// `<t>.<body>` with the time in milliseconds, where the header has seconds.
    MillisDotBody,
}

/// Finds out why the signature of `request` is not accepted, or that it is.
#[must_use]
pub fn diagnose(request: &Request<'_>) -> Diagnosis {
    let found = headers::find(request.headers);
    if accepted(request) {
        return Diagnosis::Accepted { remarks: found.first().map(FoundSignature::remarks).unwrap_or_default() };
    }
    if found.is_empty() {
        return Diagnosis::Explained { causes: vec![missing(request.headers)] };
    }
    let bodies = Bodies::of(request.body);
    let keys = search::keys(request.secrets);
    let mut search = Search::new(request, &found, &keys, &bodies);
    match search.run() {
        Some(attempt) => Diagnosis::Explained { causes: causes(&attempt, request) },
        None => {
            let mut hints = bodies::hints(&bodies, &found);
            if found.iter().all(|found| !found.time_causes(request.received_at, request.tolerance_secs).is_empty()) {
                hints.push("the signed time is out of bounds as well");
            }
            Diagnosis::Unexplained { hints, unfinished: search.unfinished }
        }
    }
}

/// Why a request is refused by its headers alone, without its body having been read: the time, or that there is no signature
/// where it belongs. Nothing of it is proven; `None` where the headers are in order.
#[must_use]
pub fn diagnose_headers(headers: &[(String, String)], received_at: i64, tolerance_secs: i64) -> Option<Diagnosis> {
    let found = headers::find(headers);
    let causes = match found.first() {
        None => vec![missing(headers)],
        Some(first) => {
            let mut causes = first.causes();
            causes.extend(first.time_causes(received_at, tolerance_secs));
            causes
        }
    };
    (!causes.is_empty()).then_some(Diagnosis::Explained { causes })
}

/// Nothing like a signature was found.
fn missing(headers: &[(String, String)]) -> Cause {
    let ours = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(HEADER));
    ours.map_or(Cause::NoSignature, |(_, value)| Cause::Malformed { what: headers::lacks(value) })
}

/// Whether the receiver takes it: by all of its header's lines together.
fn accepted(request: &Request<'_>) -> bool {
    let secrets: Vec<&[u8]> =
        request.secrets.iter().filter(|secret| secret.in_use).map(|secret| secret.secret).collect();
    SignatureHeader::of(request.headers)
        .and_then(|header| header.verify(&secrets, request.body, request.received_at, request.tolerance_secs))
        .is_ok()
}

/// The causes that an attempt that fits shows.
fn causes(attempt: &Match<'_>, request: &Request<'_>) -> Vec<Cause> {
    let found = attempt.found;
    let mut causes = found.causes();
    if attempt.message == Message::MillisDotBody {
        causes.push(Cause::Milliseconds);
    } else if attempt.message != found.scheme.message() {
        causes.push(Cause::Signed(attempt.message));
    }
    causes.extend(attempt.body.map(Cause::Body));
    if !attempt.known.in_use || attempt.key != found.scheme.key() {
        let (label, in_use) = (attempt.known.label.to_owned(), attempt.known.in_use);
        causes.push(Cause::Secret { label, in_use, change: attempt.key });
    }
    causes.extend(found.time_causes(request.received_at, request.tolerance_secs));
    if causes.is_empty() {
        // Everything fits, and yet it was refused: the digest came behind those that are read.
        causes.push(Cause::Malformed { what: "a digest among the first eight" });
    }
    causes
}

impl FoundSignature<'_> {
    fn time_causes(&self, received_at: i64, tolerance_secs: i64) -> Vec<Cause> {
        let Some(timestamp) = self.timestamp else { return Vec::new() };
        let mut causes = Vec::new();
        let secs = match timestamp.parse::<i64>() {
            // The year 5138 in seconds, 1973 in milliseconds.
            Ok(millis) if millis >= 100_000_000_000 => {
                causes.push(Cause::Milliseconds);
                millis / 1000
            }
            Ok(secs) => secs,
            Err(_) => {
                causes.push(Cause::NoWholeSeconds);
                let Some(whole) = timestamp.split('.').next().and_then(|whole| whole.parse().ok()) else {
                    return causes;
                };
                whole
            }
        };
        let age = received_at.saturating_sub(secs);
        if age > tolerance_secs {
            causes.push(Cause::TooOld { secs: age, allowed: tolerance_secs });
        } else if age < -SignatureHeader::FUTURE_SECS {
            causes.push(Cause::FromTheFuture { secs: age.saturating_neg() });
        }
        causes
    }
}

#[cfg(test)]
#[path = "diagnosis/diagnosis_tests.rs"]
mod tests;
