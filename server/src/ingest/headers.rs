//! The headers of a delivery that are kept.

/// Headers that explain a delivery. All others are dropped before they reach the database, because any of them may be a
/// credential (`Authorization`, `Cookie`, `X-Api-Key`, `CF-Access-Client-Secret`…). A list of credentials would never
/// be complete.
const KEPT_HEADERS: [&str; 24] = [
    "content-type",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "user-agent",
    "elevenlabs-signature",
    "x-twilio-signature",
    "x-retell-signature",
    "x-vapi-signature",
    "x-vapi-timestamp",
    "idempotency-key",
    "i-twilio-idempotency-token",
    "date",
    "traceparent",
    "tracestate",
    "x-request-id",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "forwarded",
    "via",
    "host",
    "origin",
    "webhook-id",
];
/// Prefix of the headers that this server adds to a replay.
const REPLAY_PREFIX: &str = "callscope-replay-";

fn is_kept(name: &str) -> bool {
    let prefix = name.get(..REPLAY_PREFIX.len());
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(REPLAY_PREFIX))
        || KEPT_HEADERS.iter().any(|kept| name.eq_ignore_ascii_case(kept))
}

/// Returns the kept headers as JSON: `[[name, value], …]`.
pub(super) fn kept_headers(headers: &[(String, String)]) -> String {
    let kept: Vec<&(String, String)> = headers.iter().filter(|(name, _)| is_kept(name)).collect();
    serde_json::to_string(&kept).unwrap_or_else(|_| "[]".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_explain_are_kept_and_credentials_are_not() {
        let headers: Vec<(String, String)> = [
            ("Content-Type", "application/json"),
            ("ElevenLabs-Signature", "t=1,v0=x"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("Callscope-Replay-Of", "id"),
            ("Authorization", "Bearer secret"),
            ("Proxy-Authorization", "secret"),
            ("Cookie", "secret"),
            ("Set-Cookie", "secret"),
            ("X-Api-Key", "secret"),
            ("X-Auth-Token", "secret"),
            ("CF-Access-Client-Secret", "secret"),
            ("X-Amz-Security-Token", "secret"),
            ("X-Vapi-Secret", "secret"),
            ("X-Anything", "secret"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let kept = kept_headers(&headers);
        assert!(!kept.contains("secret"), "{kept}");
        let names: Vec<(String, String)> = serde_json::from_str(&kept).expect("pairs");
        assert_eq!(names, headers[..4]);
    }
}
