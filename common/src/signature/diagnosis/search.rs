//! The search for what was signed: bodies as they may have been, with secrets as they may have been used.
//!
//! Each body is written once, directly into the digests of all candidates. The whole search has one budget of bytes
//! that are written and hashed, so its time is bounded for any body; its memory is that of the candidates.

use hmac::Mac;
use subtle::ConstantTimeEq;

use super::bodies::{Bodies, BodyChange};
use super::headers::FoundSignature;
use super::keys::{self, KeyChange};
use super::{KnownSecret, Message, Request};
use crate::json_style::{Full, Sink};
use crate::signature::HmacSha256;

/// A way of signing that fits the digest. The fewer changes it has, the likelier it is the sender's.
pub(super) struct Match<'r> {
    pub found: &'r FoundSignature<'r>,
    pub message: Message,
    pub body: Option<BodyChange>,
    pub known: &'r KnownSecret<'r>,
    pub key: KeyChange,
}

/// Maximum number of changes from the scheme, apart from those of the header.
const MAX_CHANGES: usize = 2;
/// Cost of a candidate apart from its bytes: a block of the hash and two for the keys.
const CANDIDATE_COST: u64 = 192;
/// Cost of a piece apart from its bytes, so that bodies of many small pieces cost the time that they take.
const PIECE_COST: u64 = 16;
/// Bytes that are collected before they are hashed.
const BUFFER: usize = 4 << 10;
/// Factor by which a changed body may be longer than the received one, and the length that any changed body may have.
/// Indented JSON grows with the square of its depth.
const MAX_GROWTH: u64 = 8;
const MIN_EXPANDED: u64 = 4 << 10;

/// A way of signing, without the body.
struct Candidate<'r> {
    found: &'r FoundSignature<'r>,
    message: Message,
    known: &'r KnownSecret<'r>,
    key: KeyChange,
    secret: &'r [u8],
    /// Number of changes from the scheme.
    changes: usize,
}

/// A known secret in one of its forms.
pub(super) struct CandidateKey<'r> {
    known: &'r KnownSecret<'r>,
    change: KeyChange,
    secret: Vec<u8>,
}

/// Returns every known secret in each of its forms.
pub(super) fn keys<'r>(secrets: &'r [KnownSecret<'r>]) -> Vec<CandidateKey<'r>> {
    let of = |known: &'r KnownSecret<'r>| {
        keys::variants(known.secret).into_iter().map(move |(change, secret)| CandidateKey { known, change, secret })
    };
    secrets.iter().flat_map(of).collect()
}

pub(super) struct Search<'r> {
    candidates: Vec<Candidate<'r>>,
    bodies: &'r Bodies<'r>,
    length: u64,
    left: u64,
    /// Whether something was not tried.
    pub unfinished: bool,
}

impl<'r> Search<'r> {
    pub fn new(
        request: &Request<'r>,
        found: &'r [FoundSignature<'r>],
        keys: &'r [CandidateKey<'r>],
        bodies: &'r Bodies<'r>,
    ) -> Self {
        let mut candidates = Vec::new();
        for found in found {
            for message in found.messages() {
                for key in keys {
                    let changes = usize::from(message != found.scheme.message())
                        + usize::from(key.change != found.scheme.key())
                        + usize::from(!key.known.in_use);
                    if changes <= MAX_CHANGES {
                        let (known, secret) = (key.known, key.secret.as_slice());
                        candidates.push(Candidate { found, message, known, key: key.change, secret, changes });
                    }
                }
            }
        }
        let length = request.body.len() as u64;
        Self { candidates, bodies, length, left: request.budget, unfinished: false }
    }

    /// Returns the match with the fewest changes.
    pub fn run(&mut self) -> Option<Match<'r>> {
        let bodies = self.bodies;
        let changes = bodies.changes();
        for level in 0..=MAX_CHANGES {
            if let Some(attempt) = self.stage(level, None, |out| out.put(bodies.body())) {
                return Some(attempt);
            }
            for change in changes.iter().filter(|_| level > 0) {
                if let Some(attempt) = self.stage(level - 1, Some(*change), |out| bodies.write(*change, out)) {
                    return Some(attempt);
                }
            }
        }
        self.fractions()
    }

    /// Tries further sets of fields that may have lost their fractions.
    fn fractions(&mut self) -> Option<Match<'r>> {
        let floats = self.bodies.floats();
        let (json, style) = (self.bodies.json()?, floats.styles().next()?);
        for set in floats.others() {
            if self.left == 0 {
                break;
            }
            let change = BodyChange::FractionsLost(style);
            if let Some(attempt) = self.stage(0, Some(change), |out| floats.write(json, style, set, out)) {
                return Some(attempt);
            }
        }
        None
    }

    /// Tries one body with every candidate that has this number of changes.
    fn stage(
        &mut self,
        changes: usize,
        body: Option<BodyChange>,
        write: impl FnOnce(&mut Digests) -> Result<(), Full>,
    ) -> Option<Match<'r>> {
        let matching = |candidate: &&Candidate<'r>| candidate.changes == changes;
        let count = self.candidates.iter().filter(matching).count() as u64;
        if count == 0 {
            return None;
        }
        let Some(left) = self.left.checked_sub(count * CANDIDATE_COST).filter(|left| *left > 0) else {
            self.left = 0;
            self.unfinished = true;
            return None;
        };
        let expandable = match body {
            // Only decompressing a body shows its length.
            Some(BodyChange::Compressed) => u64::MAX,
            _ => self.length.saturating_mul(MAX_GROWTH).max(MIN_EXPANDED),
        };
        let candidates: Vec<&Candidate<'r>> = self.candidates.iter().filter(matching).collect();
        let macs = candidates.iter().filter_map(|candidate| candidate.begin()).collect();
        let mut digests = Digests { macs, buffer: Vec::with_capacity(BUFFER), left, expandable };
        let written = write(&mut digests);
        digests.flush();
        self.left = digests.left;
        if written.is_err() {
            self.unfinished = true;
            return None;
        }
        let fits = |ends: &[u8]| {
            let mut pairs = candidates.iter().zip(&digests.macs);
            pairs
                .find(|(candidate, mac)| candidate.fits((*mac).clone().chain_update(ends)))
                .map(|(candidate, _)| *candidate)
        };
        if let Some(candidate) = fits(b"") {
            return Some(candidate.attempt(body));
        }
        match body {
            Some(BodyChange::Reserialised(style)) => {
                fits(b"\n").map(|candidate| candidate.attempt(Some(BodyChange::ReserialisedLine(style))))
            }
            _ => None,
        }
    }
}

impl<'r> Candidate<'r> {
    /// Returns the digest of everything before the body.
    fn begin(&self) -> Option<HmacSha256> {
        let found = self.found;
        let (time, id) = (found.timestamp.unwrap_or_default().as_bytes(), found.id.unwrap_or_default().as_bytes());
        let parts: &[&[u8]] = match self.message {
            Message::TimeDotBody => &[time, b"."],
            Message::IdTimeBody => &[id, b".", time, b"."],
            Message::VersionTimeBody => &[b"v0:", time, b":"],
            Message::BodyAlone => &[],
            Message::TimeBody => &[time],
            Message::MillisDotBody => &[time, b"000."],
        };
        // HMAC takes a key of any length, so this cannot fail.
        let mut mac = HmacSha256::new_from_slice(self.secret).ok()?;
        parts.iter().for_each(|part| mac.update(part));
        Some(mac)
    }

    fn fits(&self, mac: HmacSha256) -> bool {
        let expected: [u8; 32] = mac.finalize().into_bytes().into();
        self.found.digests.iter().any(|digest| bool::from(expected.ct_eq(digest)))
    }

    fn attempt(&self, body: Option<BodyChange>) -> Match<'r> {
        Match { found: self.found, message: self.message, body, known: self.known, key: self.key }
    }
}

/// The digests that a body is written into.
struct Digests {
    macs: Vec<HmacSha256>,
    buffer: Vec<u8>,
    /// What is left of the budget of the search.
    left: u64,
    /// Bytes that this body may still have.
    expandable: u64,
}

impl Sink for Digests {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let length = bytes.len() as u64;
        // Writing a byte costs about what hashing it does.
        let cost = length.saturating_mul(1 + self.macs.len() as u64).saturating_add(PIECE_COST);
        match (self.left.checked_sub(cost), self.expandable.checked_sub(length)) {
            (Some(left), Some(expandable)) => (self.left, self.expandable) = (left, expandable),
            (None, _) => {
                self.left = 0;
                return Err(Full);
            }
            (_, None) => return Err(Full),
        }
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush();
        }
        if bytes.len() >= BUFFER {
            self.macs.iter_mut().for_each(|mac| mac.update(bytes));
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(())
    }
}

impl Digests {
    fn flush(&mut self) {
        self.macs.iter_mut().for_each(|mac| mac.update(&self.buffer));
        self.buffer.clear();
    }
}
