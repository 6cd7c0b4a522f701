//! Selects the headers of a recorded delivery that are sent again, and signs requests.

use callscope_common::signature;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::clock;
use crate::secret::Secret;

/// Headers of the connection that a delivery arrived on, which do not belong to the delivery.
const HOP_BY_HOP: [&str; 12] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// What the server stores in place of a secret value.
const HIDDEN: &str = "[hidden]";
/// Headers that are forwarded to the user's own server, in lower case: those it needs to read the body and to verify
/// the sender. All others are dropped, above all credentials and headers about the sender's connection.
const FORWARDED: [&str; 14] = [
    "accept",
    "content-encoding",
    "content-language",
    "content-type",
    "date",
    "digest",
    "content-digest",
    "idempotency-key",
    "traceparent",
    "tracestate",
    "user-agent",
    "webhook-id",
    "x-correlation-id",
    "x-request-id",
];
/// Suffixes of further forwarded names: the signatures of all providers, and the values that are signed with the body.
const FORWARDED_SUFFIXES: [&str; 4] = ["-signature", "-signature-256", "-timestamp", "-message-id"];

/// Returns the headers of a recorded delivery that can be sent again: none of its connection, and none whose value was
/// hidden.
pub(crate) fn sendable(recorded: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    let is_hop_by_hop = |name: &str| HOP_BY_HOP.iter().any(|known| name.eq_ignore_ascii_case(known));
    let headers = recorded.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    headers.filter(move |(name, value)| !is_hop_by_hop(name) && *value != HIDDEN)
}

/// Returns the [`sendable`] headers that are forwarded to the user's own server.
pub(crate) fn forwardable(recorded: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    sendable(recorded).filter(|(name, _)| is_forwarded(name))
}

fn is_forwarded(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    FORWARDED.contains(&name.as_str()) || FORWARDED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// Makes a header map. Names and values that HTTP does not allow are left out.
pub(crate) fn map<'h>(headers: impl IntoIterator<Item = (&'h str, &'h str)>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            map.append(name, value);
        }
    }
    map
}

/// Signs `body` with the current time, and replaces the signature in `headers`.
pub(crate) fn sign(headers: &mut HeaderMap, secret: &Secret, body: &[u8]) {
    headers.remove(signature::HEADER);
    let value = signature::sign(secret.expose().as_bytes(), clock::unix_secs(), body);
    headers.extend(map([(signature::HEADER, value.as_str())]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_values_and_the_senders_connection_stay_behind() {
        let recorded = [
            ("Authorization", "[hidden]"),
            ("Content-Type", "application/json"),
            ("Host", "calls.example"),
            ("Transfer-Encoding", "chunked"),
            ("Expect", "100-continue"),
            ("X-Own", "[hidden] and more"),
        ];
        let recorded = recorded.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let names: Vec<_> = sendable(&recorded).map(|(name, _)| name).collect();
        assert_eq!(names, ["Content-Type", "X-Own"]);
    }

    #[test]
    fn credentials_and_the_senders_connection_stay_behind() {
        for name in [
            "Content-Type",
            "ElevenLabs-Signature",
            "X-Twilio-Signature",
            "svix-timestamp",
            "Idempotency-Key",
            "User-Agent",
        ] {
            assert!(is_forwarded(name), "{name}");
        }
        for name in [
            "Authorization",
            "Cookie",
            "Origin",
            "Referer",
            "Proxy-Authorization",
            "X-Api-Key",
            "X-Auth-Token",
            "X-Vapi-Secret",
            "X-Forwarded-For",
            "Host",
            "Content-Length",
            "Transfer-Encoding",
            "Connection",
            "Expect",
            "Sec-Fetch-Site",
            "CF-Access-Client-Secret",
            "X-Amz-Security-Token",
            "Set-Cookie",
            "X-HTTP-Method-Override",
            "Callscope-Delivery-Id",
        ] {
            assert!(!is_forwarded(name), "{name}");
        }
    }
}
