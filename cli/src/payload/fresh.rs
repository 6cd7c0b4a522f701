//! Turns payloads into those of a new call: with new identifiers, and with times that begin now.

use std::borrow::Cow;
use std::collections::BTreeMap;

use callscope_common::{Identifier, Timestamp};

use super::scan::{Token, tokens};
use super::{Payload, Recorded};
use crate::clock;

/// Minimum length in bytes of an identifier that is also replaced inside a longer text. A shorter one may occur there
/// by chance, so it is replaced only if it is the whole text.
const MIN_EMBEDDED_LEN: usize = 8;
/// The smallest number that is read as Unix seconds (March 1973). From a thousand times that, numbers are milliseconds.
const MIN_UNIX_SECS: i64 = 100_000_000;

/// The new identifiers of one round, by the old ones. All payloads of the round share them.
#[derive(Debug)]
pub(crate) struct FreshNames {
    names: BTreeMap<String, String>,
}

impl FreshNames {
    /// Makes a random new name for each identifier in `payloads`.
    pub(crate) fn of<'p>(payloads: impl IntoIterator<Item = &'p Payload>) -> Self {
        Self::seeded(payloads, &uuid::Uuid::new_v4().to_string(), clock::unix_secs())
    }

    /// Makes new names from `seed`. The same seed gives the same names, so a resumed replay continues the same calls.
    pub(crate) fn seeded<'p>(payloads: impl IntoIterator<Item = &'p Payload>, seed: &str, now: i64) -> Self {
        let mut names = BTreeMap::new();
        for payload in payloads {
            for token in tokens(&payload.body) {
                if let Token::Text { key, inner } = token
                    && is_identifier_key(key)
                    && Identifier::parse(inner).is_ok()
                    && !inner.contains('\\')
                {
                    names.entry(inner.to_owned()).or_insert_with(|| new_identifier(inner, seed, now));
                }
            }
        }
        Self { names }
    }

    /// Returns the new name for `name`.
    #[cfg(any(feature = "demo", test))]
    pub(crate) fn name<'n>(&'n self, name: &'n str) -> &'n str {
        self.names.get(name).map_or(name, String::as_str)
    }

    /// Returns the payloads with new names, and with times that begin now.
    pub(crate) fn rewrite(&self, payloads: &[Payload]) -> Vec<Payload> {
        self.rewrite_shifted(payloads, earliest_start(payloads).map_or(0, |began| clock::unix_secs() - began))
    }

    /// Returns the payloads with new names, and with all times `shift` seconds later.
    pub(crate) fn rewrite_shifted(&self, payloads: &[Payload], shift: i64) -> Vec<Payload> {
        let rewrite = |payload: &Payload| Payload {
            body: self.rewrite_body(&payload.body, shift),
            kind: payload.kind.clone(),
            // The time of receipt still sets the pace. The recorded bytes no longer match the new body.
            recorded: payload.recorded.as_ref().map(|recorded| Recorded { at: recorded.at, raw_request: None }),
        };
        payloads.iter().map(rewrite).collect()
    }

    fn rewrite_body(&self, body: &str, shift: i64) -> String {
        let mut fresh = String::with_capacity(body.len());
        for token in tokens(body) {
            match token {
                Token::Other(other) => fresh.push_str(other),
                Token::Key(inner) => fresh.push_str(&format!("\"{}\"", self.replace_names(inner))),
                Token::Text { key, inner } => {
                    let text = shift_text(key, inner, shift).map_or_else(|| self.replace_names(inner), Cow::Owned);
                    fresh.push_str(&format!("\"{text}\""));
                }
                Token::Number { key, digits } => match shift_number(key, digits, shift) {
                    Some(number) => fresh.push_str(&number),
                    None => fresh.push_str(digits),
                },
            }
        }
        fresh
    }

    /// Returns `text` with every old name replaced. Where old names overlap, the longest wins.
    fn replace_names<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if let Some(name) = self.names.get(text) {
            return Cow::Owned(name.clone());
        }
        let mut inside: Vec<_> =
            self.names.iter().filter(|(old, _)| old.len() >= MIN_EMBEDDED_LEN && text.contains(*old)).collect();
        if inside.is_empty() {
            return Cow::Borrowed(text);
        }
        inside.sort_by_key(|(old, _)| std::cmp::Reverse(old.len()));
        let mut exchanged = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some((old, new)) = inside.iter().find(|(old, _)| rest.starts_with(*old)) {
                exchanged.push_str(new);
                rest = rest.get(old.len()..).unwrap_or_default();
            } else {
                exchanged.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
        Cow::Owned(exchanged)
    }
}

/// Whether the value of `key` is an identifier of a call.
fn is_identifier_key(key: &str) -> bool {
    let key: String = key.chars().filter(|c| *c != '_').collect::<String>().to_ascii_lowercase();
    ["callsid", "conversationid", "streamsid", "sipcallid"].iter().any(|end| key.ends_with(end)) || key == "callid"
}

/// Returns a new identifier of the same form. The part up to the last `_`, or two capital letters, is kept.
fn new_identifier(old: &str, seed: &str, now: i64) -> String {
    let mut rng = fastrand::Rng::with_seed(hash(&[seed, old]));
    let mut random = || format!("{:032x}", rng.u128(..));
    if let Some(own) = old.strip_prefix(Identifier::GENERATED_PREFIX) {
        let subject = own.rsplit_once('_').map_or("call", |(subject, _)| subject);
        let kept: String = subject.chars().take(64).collect();
        return format!("{}{kept}_{now}_{}", Identifier::GENERATED_PREFIX, &random()[..6]);
    }
    let kept = match old.rfind('_') {
        Some(at) => &old[..=at],
        None if old.len() > 2 && old.bytes().take(2).all(|byte| byte.is_ascii_uppercase()) => &old[..2],
        None => "",
    };
    let length = (old.len() - kept.len()).clamp(16, 32);
    let kept = if kept.len() + length > Identifier::MAX_LEN { "" } else { kept };
    format!("{kept}{}", &random()[..length])
}

/// Returns the identifiers in `payloads`. Two sources that share an identifier belong to the same call.
pub(crate) fn identifiers(payloads: &[Payload]) -> impl Iterator<Item = &str> {
    payloads.iter().flat_map(|payload| tokens(&payload.body)).filter_map(|token| match token {
        Token::Text { key, inner } if is_identifier_key(key) && Identifier::parse(inner).is_ok() => Some(inner),
        _ => None,
    })
}

/// Returns the FNV-1a hash of `parts`, which is the same on every machine and in every version.
pub(crate) fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Returns when the earliest call of `payloads` began, in Unix seconds. Without a start time, the earliest time at
/// which a payload was sent or spoken counts.
pub(crate) fn earliest_start(payloads: &[Payload]) -> Option<i64> {
    let earliest = |wanted: &str| {
        let numbers = payloads.iter().flat_map(|payload| tokens(&payload.body)).filter_map(|token| match token {
            Token::Number { key, digits } | Token::Text { key, inner: digits } if key == wanted => {
                digits.parse::<i64>().ok()
            }
            _ => None,
        });
        numbers.filter(|secs| (MIN_UNIX_SECS..MIN_UNIX_SECS * 1000).contains(secs)).min()
    };
    earliest("start_time_unix_secs").or_else(|| earliest("event_timestamp")).or_else(|| earliest("timestamp"))
}

fn is_time_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.contains("timestamp") || key.contains("_unix")
}

fn shift_number(key: &str, digits: &str, shift: i64) -> Option<String> {
    let number: i64 = digits.parse().ok().filter(|_| is_time_key(key))?;
    match number {
        n if n >= MIN_UNIX_SECS * 1000 => Some(n.saturating_add(shift.saturating_mul(1000)).to_string()),
        n if n >= MIN_UNIX_SECS => Some(n.saturating_add(shift).to_string()),
        _ => None,
    }
}

fn shift_text(key: &str, text: &str, shift: i64) -> Option<String> {
    if let Some(number) = shift_number(key, text, shift) {
        return Some(number);
    }
    let timely = is_time_key(key) || key.to_ascii_lowercase().contains("time");
    timely.then(|| Timestamp::parse_rfc3339(text)).flatten().map(|at| at.plus_secs(shift).to_string())
}

#[cfg(test)]
#[path = "fresh_tests.rs"]
mod tests;
