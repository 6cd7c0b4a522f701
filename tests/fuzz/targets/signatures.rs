//! `ElevenLabs-Signature` headers and their bodies: only the right digest at the right time verifies, and finding out
//! why a signature is wrong takes bounded memory and time, whatever the body is.
//!
//! The input is the header, a line feed, and the body. In the header, `%` stands for the digest of the body under the
//! secret, so that the fuzzer gets past the comparison, and `|` separates its lines. `tests/fuzz/run` limits the
//! memory.

#![no_main]

use callscope_common::Timestamp;
use callscope_common::json_style::{all, write};
use callscope_common::signature::{HEADER, sign};
use callscope_server::ingest::signature::SignatureVerifier;
use callscope_server::policy::WebhookAuth;
use callscope_server::secret::Secret;
use libfuzzer_sys::fuzz_target;

const NOW: i64 = 1_790_855_035;

fuzz_target!(|input: &[u8]| {
    let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (header, body) = (&input[..at], input.get(at + 1..).unwrap_or_default());
    let Ok(header) = std::str::from_utf8(header) else { return };
    let now = Timestamp::from_unix_secs(NOW).expect("a time");
    let verifier = SignatureVerifier::new(WebhookAuth::Required, vec![Secret::new("old".into()), Secret::new("new".into())], 1800);
    let signed = sign(b"new", NOW, body);
    let digest = signed.rsplit('=').next().expect("a digest");
    let value = header.replace('%', digest);
    let headers: Vec<(String, String)> = value.split('|').map(|line| (HEADER.to_owned(), line.to_owned())).collect();
    let off = SignatureVerifier::new(WebhookAuth::Off, Vec::new(), 1800);
    assert!(off.check_headers(&headers, now).is_ok_and(|claim| off.verify(&claim, body, now).is_ok()));
    let Ok(claim) = verifier.check_headers(&headers, now) else { return explains(&verifier, &headers, body, now) };
    match verifier.verify(&claim, body, now) {
        Ok(at) => {
            assert!(value.to_lowercase().contains(digest), "{value} verified");
            assert_eq!(at, Some(NOW), "{value} verified for another time");
            assert!(verifier.verify(&claim, &[body, b" "].concat(), now).is_err(), "{value} verifies another body");
            let late = now.plus_secs(1801);
            assert!(verifier.verify(&claim, body, late).is_err(), "{value} verifies too late");
        }
        Err(_) => explains(&verifier, &headers, body, now),
    }
});

/// The cause is one of our names, and holds nothing that the sender wrote.
fn explains(verifier: &SignatureVerifier, headers: &[(String, String)], body: &[u8], now: Timestamp) {
    let causes = [verifier.explain(headers, body, now), verifier.explain_headers(headers, now)];
    for cause in causes.into_iter().flatten() {
        assert!(!cause.is_empty() && cause.bytes().all(|byte| byte.is_ascii_lowercase() || b"_ +0123456789".contains(&byte)));
    }
    // The same writer shows deliveries to people.
    if let Ok(text) = std::str::from_utf8(body)
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    {
        for style in all() {
            assert!(write(text, style).len() <= (text.len() * 8).max(64 << 10));
        }
    }
}
