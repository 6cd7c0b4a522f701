//! Explains why a signature does not verify. It tries the likely causes one by one, and names the one that makes the
//! signature fit.
//!
//! The owner of the secrets sees the result, in `callscope webhook verify --explain` and in the admin's list of
//! deliveries; the sender does not see it. Senders make few kinds of mistakes: the body was parsed and serialised
//! again, a line end was added, the secret is a different one or ends in a blank, the clock is wrong, or the scheme is
//! that of another service. This module undoes each mistake and computes the digest again, so a named cause is proven.

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
    /// Every header, as name and value.
    pub headers: &'a [(String, String)],
    /// The body as it was received.
    pub body: &'a [u8],
    /// When the request was received, in Unix seconds.
    pub received_at: i64,
    /// Maximum age of the signed time, in seconds.
    pub tolerance_secs: i64,
    /// The secrets that are tried.
    pub secrets: &'a [KnownSecret<'a>],
    /// Bytes that the search for the cause may write and hash.
    pub budget: u64,
}

/// A secret with its label.
#[derive(Clone, Copy)]
pub struct KnownSecret<'a> {
    /// The name of the secret in messages, such as a file or a setting; never the secret itself.
    pub label: &'a str,
    /// The bytes of the secret.
    pub secret: &'a [u8],
    /// Whether the receiver verifies with this secret. Another known secret may turn out to be the one that signed.
    pub in_use: bool,
}

impl std::fmt::Debug for KnownSecret<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownSecret").field("label", &self.label).field("in_use", &self.in_use).finish_non_exhaustive()
    }
}

/// The result of a diagnosis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Diagnosis {
    /// The signature is accepted. Stricter receivers would refuse it for these remarks.
    Accepted {
        /// [`Cause::UppercaseHex`], [`Cause::Blanks`].
        remarks: Vec<Cause>,
    },
    /// The signature would be accepted without these causes, of which there is at least one.
    Explained {
        /// The causes, the most important one first.
        causes: Vec<Cause>,
    },
    /// None of the known causes fits.
    Unexplained {
        /// Facts that may help to find the cause.
        hints: Vec<&'static str>,
        /// Whether causes were not tried because the budget was spent.
        unfinished: bool,
    },
}

/// Something that keeps a signature from being accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// No header holds a signature.
    NoSignature,
    /// The header has no time or no digest.
    Malformed {
        /// The missing part.
        what: &'static str,
    },
    /// The signature is in a header of another name.
    OtherHeader {
        /// The name of that header.
        name: String,
    },
    /// The signature follows the scheme of another service.
    OtherScheme(Scheme),
    /// The key of the digest is not `v0`.
    OtherTag {
        /// The key of the digest.
        tag: String,
    },
    /// The digest is in Base64.
    Base64Digest,
    /// Another message than `<t>.<body>` was signed.
    Signed(Message),
    /// Another body was signed.
    Body(BodyChange),
    /// Another secret signed.
    Secret {
        /// The label of the known secret that signed.
        label: String,
        /// Whether the receiver verifies with that secret.
        in_use: bool,
        /// How the sender changed that secret.
        change: KeyChange,
    },
    /// The time is in milliseconds.
    Milliseconds,
    /// The time is not a whole number of seconds.
    NoWholeSeconds,
    /// The signed time lies too far in the past.
    TooOld {
        /// Seconds from the signed time to the receipt.
        secs: i64,
        /// Seconds that are allowed.
        allowed: i64,
    },
    /// The signed time lies in the future.
    FromTheFuture {
        /// Seconds from the receipt to the signed time.
        secs: i64,
    },
    /// The hex digits are capitals. They are accepted here, but receivers that compare texts, as the vendor's SDKs do,
    /// refuse them.
    UppercaseHex,
    /// There are blanks around the parts. They are accepted here, but the vendor's SDKs refuse them.
    Blanks,
}

/// The message that was signed.
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
    /// `<t>.<body>` with the time in milliseconds, although the header has seconds.
    MillisDotBody,
}

/// Returns whether the signature of `request` is accepted, or why not.
#[must_use]
pub fn diagnose(request: &Request<'_>) -> Diagnosis {
    let found = headers::find(request.headers);
    if is_accepted(request) {
        return Diagnosis::Accepted { remarks: found.first().map(FoundSignature::remarks).unwrap_or_default() };
    }
    if found.is_empty() {
        return Diagnosis::Explained { causes: vec![missing_cause(request.headers)] };
    }
    let bodies = Bodies::of(request.body);
    let keys = search::keys(request.secrets);
    let mut search = Search::new(request, &found, &keys, &bodies);
    match search.run() {
        Some(matched) => Diagnosis::Explained { causes: causes(&matched, request) },
        None => {
            let mut hints = bodies::hints(&bodies, &found);
            if found.iter().all(|found| !found.time_causes(request.received_at, request.tolerance_secs).is_empty()) {
                hints.push("the signed time is out of bounds as well");
            }
            Diagnosis::Unexplained { hints, unfinished: search.unfinished }
        }
    }
}

/// Returns why the headers of a request are refused before its body is read: for the time, or for a signature that is
/// missing or misplaced. The causes are not proven. Returns `None` if the headers are valid.
#[must_use]
pub fn diagnose_headers(headers: &[(String, String)], received_at: i64, tolerance_secs: i64) -> Option<Diagnosis> {
    let found = headers::find(headers);
    let causes = match found.first() {
        None => vec![missing_cause(headers)],
        Some(first) => {
            let mut causes = first.causes();
            causes.extend(first.time_causes(received_at, tolerance_secs));
            causes
        }
    };
    (!causes.is_empty()).then_some(Diagnosis::Explained { causes })
}

/// Returns the cause of a request in which no signature was found.
fn missing_cause(headers: &[(String, String)]) -> Cause {
    let header = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(HEADER));
    header.map_or(Cause::NoSignature, |(_, value)| Cause::Malformed { what: headers::missing_part(value) })
}

/// Whether the receiver accepts the request, by all lines of its header together.
fn is_accepted(request: &Request<'_>) -> bool {
    let secrets: Vec<&[u8]> =
        request.secrets.iter().filter(|secret| secret.in_use).map(|secret| secret.secret).collect();
    SignatureHeader::of(request.headers)
        .and_then(|header| header.verify(&secrets, request.body, request.received_at, request.tolerance_secs))
        .is_ok()
}

/// Returns the causes that a match proves.
fn causes(matched: &Match<'_>, request: &Request<'_>) -> Vec<Cause> {
    let found = matched.found;
    let mut causes = found.causes();
    if matched.message == Message::MillisDotBody {
        causes.push(Cause::Milliseconds);
    } else if matched.message != found.scheme.message() {
        causes.push(Cause::Signed(matched.message));
    }
    causes.extend(matched.body.map(Cause::Body));
    if !matched.known.in_use || matched.key != found.scheme.key() {
        let (label, in_use) = (matched.known.label.to_owned(), matched.known.in_use);
        causes.push(Cause::Secret { label, in_use, change: matched.key });
    }
    causes.extend(found.time_causes(request.received_at, request.tolerance_secs));
    if causes.is_empty() {
        // The digest fits, but it is not among the first `SignatureHeader::MAX_DIGESTS`, which are all that is read.
        causes.push(Cause::Malformed { what: "a digest among the first eight" });
    }
    causes
}

impl FoundSignature<'_> {
    fn time_causes(&self, received_at: i64, tolerance_secs: i64) -> Vec<Cause> {
        let Some(timestamp) = self.timestamp else { return Vec::new() };
        let mut causes = Vec::new();
        let secs = match timestamp.parse::<i64>() {
            // As seconds this is the year 5138 or later, as milliseconds 1973 or later: so these are milliseconds.
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
