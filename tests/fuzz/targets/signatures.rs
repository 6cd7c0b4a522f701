//! `ElevenLabs-Signature` headers and their bodies: only the right digest at the right time verifies, and the search
//! for the cause of a wrong signature takes bounded memory and time.
//!
//! The input is the header, a line feed, and the body. In the header, `%` is replaced by the digest of the body, so
//! that the fuzzer gets past the comparison, and `|` separates several header lines. `tests/fuzz/run` limits the
//! memory.

#![no_main]

use callscope_common::Timestamp;
use callscope_common::json_style::{all, write};
use callscope_common::signature::{HEADER, sign};
use callscope_server::ingest::signature::SignatureVerifier;
use callscope_server::policy::WebhookAuth;
use callscope_server::secret::Secret;
use libfuzzer_sys::fuzz_target;

/// Time of every verification, in Unix seconds.
const NOW: i64 = 1_790_855_035;
/// Age at which a signature expires.
const TOLERANCE_SECS: i64 = 1800;

fuzz_target!(|input: &[u8]| {
    let header_end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (header, body) = (&input[..header_end], input.get(header_end + 1..).unwrap_or_default());
    let Ok(header) = std::str::from_utf8(header) else { return };
    let now = Timestamp::from_unix_secs(NOW).expect("a time");
    let verifier = SignatureVerifier::new(WebhookAuth::Required, vec![Secret::new("old".into()), Secret::new("new".into())], TOLERANCE_SECS);
    let signed = sign(b"new", NOW, body);
    let digest = signed.rsplit('=').next().expect("a digest");
    let value = header.replace('%', digest);
    let headers: Vec<(String, String)> = value.split('|').map(|line| (HEADER.to_owned(), line.to_owned())).collect();
    let off = SignatureVerifier::new(WebhookAuth::Off, Vec::new(), TOLERANCE_SECS);
    assert!(off.check_headers(&headers, now).is_ok_and(|claim| off.verify(&claim, body, now).is_ok()));
    let Ok(claim) = verifier.check_headers(&headers, now) else { return check_causes(&verifier, &headers, body, now) };
    match verifier.verify(&claim, body, now) {
        Ok(signed_at) => {
            assert!(value.to_lowercase().contains(digest), "{value} verified");
            assert_eq!(signed_at, Some(NOW), "{value} verified for another time");
            assert!(verifier.verify(&claim, &[body, b" "].concat(), now).is_err(), "{value} verifies another body");
            let late = now.plus_secs(TOLERANCE_SECS + 1);
            assert!(verifier.verify(&claim, body, late).is_err(), "{value} verifies too late");
        }
        Err(_) => check_causes(&verifier, &headers, body, now),
    }
});

/// Checks that the cause of a refusal is one of the server's names, without any text of the sender.
fn check_causes(verifier: &SignatureVerifier, headers: &[(String, String)], body: &[u8], now: Timestamp) {
    let causes = [verifier.explain(headers, body, now), verifier.explain_headers(headers, now)];
    for cause in causes.into_iter().flatten() {
        assert!(!cause.is_empty() && cause.bytes().all(|byte| byte.is_ascii_lowercase() || b"_ +0123456789".contains(&byte)));
    }
    // Callscope also rewrites deliveries with `write` to show them, so its output must not be much longer.
    if let Ok(text) = std::str::from_utf8(body)
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    {
        for style in all() {
            assert!(write(text, style).len() <= (text.len() * 8).max(64 << 10));
        }
    }
}
