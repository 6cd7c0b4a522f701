//! The search for what was signed. It tries each body that may have been signed with each form of each secret.
//!
//! Each body is written once, directly into the digests of all candidates. One budget limits the bytes that the whole
//! search may write and hash. So its time is bounded for any body, and its memory by the number of candidates.

use hmac::Mac;
use subtle::ConstantTimeEq;

use super::bodies::{Bodies, BodyChange};
use super::headers::FoundSignature;
use super::keys::{self, KeyChange};
use super::{KnownSecret, Message, Request};
use crate::json_style::{Full, Sink};
use crate::signature::HmacSha256;

/// A way of signing that yields the digest. The fewer changes it needs, the likelier the sender signed this way.
pub(super) struct Match<'r> {
    pub found: &'r FoundSignature<'r>,
    pub message: Message,
    pub body: Option<BodyChange>,
    pub known: &'r KnownSecret<'r>,
    pub key: KeyChange,
}

/// Maximum number of deviations from the scheme. Deviations of the header itself do not count.
const MAX_CHANGES: usize = 2;
/// Fixed cost of a candidate, in bytes of the budget: three blocks of the hash, of which two are for the key.
const CANDIDATE_COST: u64 = 192;
/// Fixed cost of a piece, in bytes of the budget, because a body of many small pieces takes longer to write.
const PIECE_COST: u64 = 16;
/// Bytes that are collected before they are hashed.
const BUFFER_BYTES: usize = 4 << 10;
/// Maximum length of a changed body, as a multiple of the received length. Indented JSON grows with the square of its
/// depth.
const MAX_GROWTH_FACTOR: u64 = 8;
/// Length in bytes that a changed body may have even if the received one is short.
const MIN_LENGTH_LIMIT: u64 = 4 << 10;

/// A way of signing any body: header, message and key.
struct Candidate<'r> {
    found: &'r FoundSignature<'r>,
    message: Message,
    known: &'r KnownSecret<'r>,
    key: KeyChange,
    secret: &'r [u8],
    /// Number of deviations from the scheme.
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
    body_length: u64,
    budget_left: u64,
    /// Whether a candidate was not tried because the budget was spent.
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
        let body_length = request.body.len() as u64;
        Self { candidates, bodies, body_length, budget_left: request.budget, unfinished: false }
    }

    /// Returns the match with the fewest changes.
    pub fn run(&mut self) -> Option<Match<'r>> {
        let bodies = self.bodies;
        let changes = bodies.changes();
        for level in 0..=MAX_CHANGES {
            if let Some(matched) = self.try_body(level, None, |out| out.put(bodies.body())) {
                return Some(matched);
            }
            for change in changes.iter().filter(|_| level > 0) {
                if let Some(matched) = self.try_body(level - 1, Some(*change), |out| bodies.write(*change, out)) {
                    return Some(matched);
                }
            }
        }
        self.fractions()
    }

    /// Tries the less likely sets of fields that may have lost their fractions.
    fn fractions(&mut self) -> Option<Match<'r>> {
        let floats = self.bodies.floats();
        let (json, style) = (self.bodies.json()?, floats.styles().next()?);
        for set in floats.other_sets() {
            if self.budget_left == 0 {
                break;
            }
            let change = BodyChange::FractionsLost(style);
            if let Some(matched) = self.try_body(0, Some(change), |out| floats.write(json, style, set, out)) {
                return Some(matched);
            }
        }
        None
    }

    /// Tries one body with every candidate that has this number of changes.
    fn try_body(
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
        let Some(left) = self.budget_left.checked_sub(count * CANDIDATE_COST).filter(|left| *left > 0) else {
            self.budget_left = 0;
            self.unfinished = true;
            return None;
        };
        let length_left = match body {
            // The length of a decompressed body is not known in advance, so only the budget limits it.
            Some(BodyChange::Compressed) => u64::MAX,
            _ => self.body_length.saturating_mul(MAX_GROWTH_FACTOR).max(MIN_LENGTH_LIMIT),
        };
        let candidates: Vec<&Candidate<'r>> = self.candidates.iter().filter(matching).collect();
        let macs = candidates.iter().filter_map(|candidate| candidate.start_digest()).collect();
        let mut digests = Digests { macs, buffer: Vec::with_capacity(BUFFER_BYTES), budget_left: left, length_left };
        let written = write(&mut digests);
        digests.flush();
        self.budget_left = digests.budget_left;
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
            return Some(candidate.with_body(body));
        }
        match body {
            Some(BodyChange::Reserialised(style)) => {
                fits(b"\n").map(|candidate| candidate.with_body(Some(BodyChange::ReserialisedLine(style))))
            }
            _ => None,
        }
    }
}

impl<'r> Candidate<'r> {
    /// Returns a digest that has taken everything before the body.
    fn start_digest(&self) -> Option<HmacSha256> {
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

    fn with_body(&self, body: Option<BodyChange>) -> Match<'r> {
        Match { found: self.found, message: self.message, body, known: self.known, key: self.key }
    }
}

/// The digests that a body is written into.
struct Digests {
    macs: Vec<HmacSha256>,
    buffer: Vec<u8>,
    /// The rest of the search's budget, in bytes.
    budget_left: u64,
    /// Number of bytes by which this body may still grow.
    length_left: u64,
}

impl Sink for Digests {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let length = bytes.len() as u64;
        // Writing a byte takes about as long as hashing it once, and each digest hashes it.
        let cost = length.saturating_mul(1 + self.macs.len() as u64).saturating_add(PIECE_COST);
        match (self.budget_left.checked_sub(cost), self.length_left.checked_sub(length)) {
            (Some(left), Some(length_left)) => (self.budget_left, self.length_left) = (left, length_left),
            (None, _) => {
                self.budget_left = 0;
                return Err(Full);
            }
            (_, None) => return Err(Full),
        }
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush();
        }
        if bytes.len() >= BUFFER_BYTES {
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
