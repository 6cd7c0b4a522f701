//! Finds signatures among the headers of a request, in our header and in those of other services.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::keys::KeyChange;
use super::{Cause, Message};
use crate::signature::{HEADER, parse_digest};

/// Maximum number of digests that are tried; a header can hold any number.
const MAX_DIGESTS: usize = 16;
/// Maximum number of headers that are tried as signatures.
const MAX_SIGNATURES: usize = 8;

/// The service whose scheme a signature follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// `ElevenLabs-Signature: t=…,v0=hex`, over `<t>.<body>`.
    ElevenLabs,
    /// `Stripe-Signature: t=…,v1=hex`, over `<t>.<body>`.
    Stripe,
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,base64`, over `<id>.<t>.<body>`, the key in Base64
    /// behind `whsec_`.
    StandardWebhooks,
    /// `X-Hub-Signature-256: sha256=hex`, over the body.
    GitHub,
    /// `X-Slack-Signature: v0=hex` with `X-Slack-Request-Timestamp`, over `v0:<t>:<body>`.
    Slack,
}

impl Scheme {
    /// Returns the message that the scheme signs.
    pub(super) fn message(self) -> Message {
        match self {
            Self::ElevenLabs | Self::Stripe => Message::TimeDotBody,
            Self::StandardWebhooks => Message::IdTimeBody,
            Self::GitHub => Message::BodyAlone,
            Self::Slack => Message::VersionTimeBody,
        }
    }

    /// Returns how the scheme uses the secret.
    pub(super) fn key(self) -> KeyChange {
        if self == Self::StandardWebhooks { KeyChange::Base64Decoded } else { KeyChange::None }
    }
}

/// A header that may hold a signature.
#[derive(Debug)]
pub(super) struct FoundSignature<'r> {
    pub name: &'r str,
    /// The value of the header. Our own header may have several lines, which then are one list.
    values: Vec<&'r str>,
    pub scheme: Scheme,
    pub timestamp: Option<&'r str>,
    pub id: Option<&'r str>,
    pub digests: Vec<[u8; 32]>,
    /// The key before a digest: `v0` for ElevenLabs.
    tag: Option<&'r str>,
    /// Whether a digest is written in Base64 instead of hex.
    is_base64: bool,
}

impl<'r> FoundSignature<'r> {
    /// Returns the messages that may have been signed, each once, with the scheme's own message first.
    pub fn messages(&self) -> Vec<Message> {
        let mut messages = vec![self.scheme.message()];
        if self.timestamp.is_some() {
            messages.extend([Message::TimeDotBody, Message::TimeBody, Message::MillisDotBody]);
        }
        messages.push(Message::BodyAlone);
        let first = messages[0];
        let mut was_kept = false;
        messages.retain(|message| *message != first || !std::mem::replace(&mut was_kept, true));
        messages
    }

    /// Returns what is wrong with the header itself.
    pub fn causes(&self) -> Vec<Cause> {
        if self.scheme != Scheme::ElevenLabs {
            return vec![Cause::OtherScheme(self.scheme)];
        }
        let mut causes = Vec::new();
        if !self.name.eq_ignore_ascii_case(HEADER) {
            causes.push(Cause::OtherHeader { name: self.name.to_owned() });
        }
        match self.tag {
            Some("v0") => {}
            Some(tag) => causes.push(Cause::OtherTag { tag: tag.to_owned() }),
            None => causes.push(Cause::Malformed { what: "`v0=` before the digest" }),
        }
        if self.is_base64 {
            causes.push(Cause::Base64Digest);
        }
        if self.timestamp.is_none() {
            causes.push(Cause::Malformed { what: "the time, `t=<unix secs>`" });
        }
        causes
    }

    /// Returns what Callscope accepts although receivers that compare texts refuse it.
    pub fn remarks(&self) -> Vec<Cause> {
        let mut remarks = Vec::new();
        let any = |is: fn(&u8) -> bool| self.values.iter().any(|value| value.as_bytes().iter().any(is));
        if any(u8::is_ascii_uppercase) {
            remarks.push(Cause::UppercaseHex);
        }
        if any(u8::is_ascii_whitespace) {
            remarks.push(Cause::Blanks);
        }
        remarks
    }

    fn new(name: &'r str, values: Vec<&'r str>, scheme: Scheme) -> Self {
        Self { name, values, scheme, timestamp: None, id: None, digests: Vec::new(), tag: None, is_base64: false }
    }

    /// Adds `text` if it is a digest, in hex or in Base64.
    fn add_digest(&mut self, tag: Option<&'r str>, text: &str) {
        if self.digests.len() >= MAX_DIGESTS {
            return;
        }
        if let Some(digest) = parse_digest(text) {
            self.digests.push(digest);
        } else if let Some(digest) = parse_base64_digest(text) {
            self.digests.push(digest);
            self.is_base64 = true;
        } else {
            return;
        }
        if self.tag.is_none() || tag == Some("v0") {
            self.tag = tag;
        }
    }
}

/// Returns everything in `headers` that may be a signature, our header first.
pub(super) fn find(headers: &[(String, String)]) -> Vec<FoundSignature<'_>> {
    let is_ours = |(name, _): &&(String, String)| name.eq_ignore_ascii_case(HEADER);
    let ours: Vec<&str> = headers.iter().filter(is_ours).map(|(_, value)| value.as_str()).collect();
    // If each line has a time, each line is a signature. Otherwise the lines together are one signature.
    let has_time = |value: &&str| value.split(',').any(|part| part.trim_start().starts_with("t="));
    let mut found: Vec<_> = if ours.iter().all(has_time) {
        ours.iter().filter_map(|value| read_signature(headers, HEADER, vec![*value])).collect()
    } else {
        read_signature(headers, HEADER, ours).into_iter().collect()
    };
    let others = headers.iter().filter(|header| !is_ours(header));
    found.extend(others.filter_map(|(name, value)| read_signature(headers, name, vec![value])));
    found.truncate(MAX_SIGNATURES);
    found
}

fn read_signature<'r>(
    headers: &'r [(String, String)],
    name: &'r str,
    values: Vec<&'r str>,
) -> Option<FoundSignature<'r>> {
    let lower = name.to_ascii_lowercase();
    // Proxies and frameworks rename headers (X-…, HTTP_ELEVENLABS_SIGNATURE), so the value counts as much as the name.
    if !lower.contains("signature") && !lower.contains("hmac") && !values.iter().any(|value| value.contains("v0=")) {
        return None;
    }
    if let Some(prefix) = lower.strip_suffix("-signature").filter(|prefix| ["webhook", "svix"].contains(prefix)) {
        return read_standard_webhook(headers, name, values.first()?, prefix);
    }
    let scheme = match lower.as_str() {
        "stripe-signature" => Scheme::Stripe,
        "x-hub-signature-256" => Scheme::GitHub,
        "x-slack-signature" => Scheme::Slack,
        _ => Scheme::ElevenLabs,
    };
    let mut found = FoundSignature::new(name, values, scheme);
    for part in found.values.clone().into_iter().flat_map(|value| value.split(',')) {
        let Some((key, text)) = part.split_once('=') else {
            found.add_digest(None, part.trim());
            continue;
        };
        match (key.trim(), text.trim()) {
            ("t" | "ts" | "timestamp", text) if found.timestamp.is_none() => found.timestamp = Some(text),
            (key, text) => {
                found.add_digest(Some(key), text);
                // A Base64 digest without a key ends in `=` as well.
                if text.is_empty() || text == "=" {
                    found.add_digest(None, part.trim());
                }
            }
        }
    }
    if scheme == Scheme::Slack {
        found.timestamp = header_value(headers, "x-slack-request-timestamp");
    }
    // A header with our name may still have Stripe's form: `v1` instead of `v0`.
    if scheme == Scheme::ElevenLabs && found.tag == Some("v1") && found.timestamp.is_some() {
        found.scheme = Scheme::Stripe;
    }
    (!found.digests.is_empty()).then_some(found)
}

fn read_standard_webhook<'r>(
    headers: &'r [(String, String)],
    name: &'r str,
    value: &'r str,
    prefix: &str,
) -> Option<FoundSignature<'r>> {
    let mut found = FoundSignature::new(name, vec![value], Scheme::StandardWebhooks);
    found.id = header_value(headers, &format!("{prefix}-id"));
    found.timestamp = header_value(headers, &format!("{prefix}-timestamp"));
    for signature in value.split(' ') {
        let (version, text) = signature.split_once(',').unwrap_or(("v1", signature));
        found.add_digest(Some(version), text);
    }
    (!found.digests.is_empty()).then_some(found)
}

fn header_value<'r>(headers: &'r [(String, String)], name: &str) -> Option<&'r str> {
    headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Names the part that a value of our header lacks, as the rest of "the signature header lacks …".
pub(super) fn missing_part(value: &str) -> &'static str {
    let parts = || value.split(',').filter_map(|part| part.split_once('='));
    if value.trim().is_empty() {
        "anything: it is empty"
    } else if !parts().any(|(key, _)| key.trim() == "t") {
        "the time, `t=<unix secs>`, and a digest of 64 hex digits"
    } else if !parts().any(|(key, _)| key.trim() == "v0") {
        "the digest, `v0=<64 hex digits>`"
    } else {
        "64 hex digits behind `v0=`: a SHA-256 digest has that many"
    }
}

fn parse_base64_digest(text: &str) -> Option<[u8; 32]> {
    if !(43..=44).contains(&text.len()) {
        return None;
    }
    let standard = text.trim_end_matches('=').replace('-', "+").replace('_', "/");
    BASE64_STANDARD.decode(format!("{standard}=")).ok()?.try_into().ok()
}
