//! `ElevenLabs-Signature` headers: nothing but the right digest at the right time verifies.
//!
//! In the input, `%` stands for the digest of the body under the secret, so that the fuzzer reaches what lies behind it.

#![no_main]

use callscope_common::Timestamp;
use callscope_common::signature::sign;
use callscope_server::ingest::signature::Checker;
use callscope_server::settings::{Secret, WebhookAuth};
use libfuzzer_sys::fuzz_target;

const NOW: i64 = 1_790_855_035;
const BODY: &[u8] = b"{}";

fuzz_target!(|input: &str| {
    let now = Timestamp::from_unix_secs(NOW).expect("a time");
    let checker = Checker::new(WebhookAuth::Required, vec![Secret::new("old".into()), Secret::new("new".into())], 1800);
    let signed = sign(b"new", NOW, BODY);
    let digest = signed.rsplit('=').next().expect("a digest");
    let header = input.replace('%', digest);
    let off = Checker::new(WebhookAuth::Off, Vec::new(), 1800);
    assert!(off.check(Some(&header), BODY, now).is_ok());
    if let Ok(at) = checker.check(Some(&header), BODY, now) {
        assert!(header.to_lowercase().contains(digest), "{header} verified");
        assert_eq!(at, Some(NOW), "{header} verified for another time");
        assert!(checker.check(Some(&header), b"{} ", now).is_err(), "{header} verifies another body");
        let late = now.plus_secs(1801);
        assert!(checker.check(Some(&header), BODY, late).is_err(), "{header} verifies too late");
    }
});
