//! Each mistake made once, on purpose.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use hmac::Mac as _;

use super::*;
use crate::signature::{HmacSha256, sign};

const NOW: i64 = 1_790_855_035;
const SECRET: &str = "wsec_4f1d";
const SPARE: &str = "wsec_spare";
/// As the vendor writes it.
const BODY: &str = r#"{"type": "post_call_transcription", "data": {"message": "Stra\u00dfe", "price": 5.7e-05}}"#;

fn explain(headers: &[(&str, &str)], body: &[u8]) -> Diagnosis {
    let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let secrets = [
        KnownSecret { label: "secret.txt", secret: SECRET.as_bytes(), in_use: true },
        KnownSecret { label: "old.txt", secret: SPARE.as_bytes(), in_use: false },
    ];
    let request = Request {
        headers: &headers,
        body,
        received_at: NOW,
        tolerance_secs: 1800,
        secrets: &secrets,
        budget: 64 << 20,
    };
    diagnose(&request)
}

fn codes(diagnosis: &Diagnosis) -> Vec<&'static str> {
    diagnosis.causes().iter().map(Cause::code).collect()
}

/// The header's value is right for `signed` under `secret`; `body` is what came.
fn check(secret: &str, signed: &str, body: &str, expected: &[&str]) {
    let diagnosis =
        explain(&[("elevenlabs-signature", &sign(secret.as_bytes(), NOW, signed.as_bytes()))], body.as_bytes());
    assert_eq!(codes(&diagnosis), expected, "{secret:?} {body:?}: {}", diagnosis.summary());
}

fn check_header(name: &str, value: &str, expected: &[&str]) {
    let diagnosis = explain(&[("Content-Type", "application/json"), (name, value)], BODY.as_bytes());
    assert_eq!(codes(&diagnosis), expected, "{name}: {value}: {}", diagnosis.summary());
}

/// HMAC-SHA256 of `parts`, one behind the other.
fn mac_of(secret: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = HmacSha256::new_from_slice(secret).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_fits_is_accepted() {
    check(SECRET, BODY, BODY, &[]);
    let diagnosis = explain(&[(HEADER, &sign(SECRET.as_bytes(), NOW, BODY.as_bytes()))], BODY.as_bytes());
    assert_eq!(diagnosis, Diagnosis::Accepted { remarks: vec![] });
}

#[test]
fn a_body_serialised_again_is_found_in_either_direction() {
    let javascript = r#"{"type":"post_call_transcription","data":{"message":"Straße","price":0.000057}}"#;
    check(SECRET, BODY, javascript, &["body_reserialised"]);
    check(SECRET, javascript, BODY, &["body_reserialised"]);
    check(SECRET, &format!("{BODY}\n"), javascript, &["body_reserialised"]);
    let pretty = "{\n  \"type\": \"post_call_transcription\",\n  \"data\": {\n    \"message\": \"Stra\\u00dfe\",\n    \"price\": 5.7e-05\n  }\n}";
    check(SECRET, BODY, pretty, &["body_reserialised"]);
    check(SECRET, pretty, BODY, &["body_reserialised"]);
}

#[test]
fn what_editors_and_proxies_do_to_a_body() {
    check(SECRET, BODY, &format!("{BODY}\n"), &["newline_added"]);
    check(SECRET, BODY, &format!("{BODY}\r\n"), &["newline_added"]);
    check(SECRET, BODY, &format!(" {BODY} "), &["newline_added"]);
    check(SECRET, &format!("{BODY}\n"), BODY, &["newline_removed"]);
    check(SECRET, "{\r\n}\r\n", "{\n}\n", &["line_ends_changed"]);
    check(SECRET, "{\n}\n", "{\r\n}\r\n", &["line_ends_changed"]);
    check(SECRET, BODY, &format!("\u{feff}{BODY}"), &["byte_order_mark"]);
    check(SECRET, &format!("\u{feff}{BODY}"), BODY, &["byte_order_mark"]);
    check(SECRET, r#"{"a":"ü"}"#, r#"{"a":"Ã¼"}"#, &["read_as_latin1"]);
    check(SECRET, BODY, &serde_json::to_string(BODY).unwrap(), &["stringified"]);
    check(SECRET, &serde_json::to_string(BODY).unwrap(), BODY, &["stringified"]);
    check(SECRET, "", BODY, &["empty_body_signed"]);
}

#[test]
fn fractions_that_javascript_dropped_are_put_back() {
    // As Python writes it, and what JSON.stringify(JSON.parse(…)) makes of it.
    let usage =
        r#"{"price": 0.0, "tokens": 12, "usage": {"free_minutes_consumed": 2.0, "n": 1e+16}, "text": "\u00fc"}"#;
    let javascript =
        r#"{"price":0,"tokens":12,"usage":{"free_minutes_consumed":2,"n":10000000000000000},"text":"\u00fc"}"#;
    check(SECRET, usage, &javascript.replace("\\u00fc", "ü"), &["body_reserialised"]);
    // Fields of the sender's own: none of them known, one besides the known ones, one of the known ones whole, in
    // lists.
    check(SECRET, r#"{"mine": 1.0, "other": 2.0}"#, r#"{"mine":1,"other":2}"#, &["body_reserialised"]);
    check(SECRET, r#"{"mine": 1.0, "other": 2}"#, r#"{"mine":1,"other":2}"#, &["body_reserialised"]);
    check(
        SECRET,
        r#"{"price": 1.0, "mine": 1.0, "other": 2}"#,
        r#"{"price":1,"mine":1,"other":2}"#,
        &["body_reserialised"],
    );
    check(SECRET, r#"{"price": 1, "cost_fiat": 1.0}"#, r#"{"price":1,"cost_fiat":1}"#, &["body_reserialised"]);
    check(SECRET, r#"{"scores": [1.0, 0.5, -2.0]}"#, r#"{"scores":[1,0.5,-2]}"#, &["body_reserialised"]);
    check(SECRET, r#"{"price": 1.0}"#, r#"{"price":1.00}"#, &["body_reserialised"]);
    check(SPARE, r#"{"price": 1.0}"#, r#"{"price":1}"#, &["body_reserialised", "other_secret"]);
    // A number that was another is not explained.
    let value = sign(SECRET.as_bytes(), NOW, br#"{"price": 1.5}"#);
    assert!(matches!(explain(&[(HEADER, &value)], br#"{"price":1}"#), Diagnosis::Unexplained { .. }));
}

#[test]
fn bodies_that_were_encoded_on_the_way() {
    use std::io::Write as _;
    let check = |body: &[u8], expected: &str| {
        let diagnosis = explain(&[(HEADER, &sign(SECRET.as_bytes(), NOW, BODY.as_bytes()))], body);
        assert_eq!(codes(&diagnosis), [expected], "{}: {}", String::from_utf8_lossy(body), diagnosis.summary());
    };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(BODY.as_bytes()).unwrap();
    check(&gzip.finish().unwrap(), "body_compressed");
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(BODY.as_bytes()).unwrap();
    check(&zlib.finish().unwrap(), "body_compressed");
    let base64 = BASE64_STANDARD.encode(BODY);
    check(base64.as_bytes(), "body_base64");
    check(format!("\"{base64}\"").as_bytes(), "body_base64");
    check(base64.trim_end_matches('=').replace('+', "-").replace('/', "_").as_bytes(), "body_base64");
    let lines: Vec<String> = base64.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line).into()).collect();
    check(format!("{}\r\n", lines.join("\r\n")).as_bytes(), "body_base64");
    let percent: String = BODY.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let plus = percent.replace("%20", "+").replace("%74", "t");
    for form in [
        percent.clone(),
        plus.clone(),
        format!("{plus}="),
        format!("payload={percent}"),
        format!("a=1&payload={plus}&b=2"),
    ] {
        check(form.as_bytes(), "body_form_encoded");
    }
}

/// Indented styles grow with the square of the depth, so what is written is bounded and not only what is read.
#[test]
fn hostile_bodies_are_given_up_on() {
    let bombs = [
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes(),
        r#"{"a":"#.repeat(40_000).into_bytes(),
        format!("{}0{}{}", "[".repeat(1_000), ",0".repeat(120_000), "]".repeat(1_000)).into_bytes(),
        vec![b' '; 250_000],
        vec![0xff; 250_000],
        "\"\\u0000\"".repeat(30_000).into_bytes(),
        format!("[{}1]", "1e1,".repeat(60_000)).into_bytes(),
        format!("[{}1]", "\"\",".repeat(80_000)).into_bytes(),
    ];
    let headers = [(HEADER.to_owned(), sign(SPARE.as_bytes(), NOW, b"another"))];
    let secrets = [KnownSecret { label: "a", secret: SECRET.as_bytes(), in_use: true }];
    for body in &bombs {
        let diagnosis = diagnose(&Request {
            headers: &headers,
            body,
            received_at: NOW,
            tolerance_secs: 1800,
            secrets: &secrets,
            budget: 4 << 20,
        });
        assert!(matches!(diagnosis, Diagnosis::Unexplained { unfinished: true, .. }), "{diagnosis:?}");
    }
}

#[test]
fn headers_alone_tell_what_needs_no_body() {
    let of = |headers: &[(&str, &str)]| {
        let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        diagnose_headers(&headers, NOW, 1800).map(|diagnosis| codes(&diagnosis).join(" + "))
    };
    let signed = |at: i64| sign(SECRET.as_bytes(), at, BODY.as_bytes());
    assert_eq!(of(&[]).as_deref(), Some("no_signature"));
    assert_eq!(of(&[(HEADER, "t=1")]).as_deref(), Some("malformed_header"));
    assert_eq!(of(&[(HEADER, &signed(NOW - 9000))]).as_deref(), Some("too_old"));
    assert_eq!(of(&[(HEADER, &signed(NOW * 1000))]).as_deref(), Some("milliseconds"));
    assert_eq!(of(&[("X-Signature", &signed(NOW))]).as_deref(), Some("other_header"));
    assert_eq!(of(&[(HEADER, &signed(NOW))]), None);
    let signed = signed(NOW);
    let (time, digest) = signed.split_once(',').unwrap();
    assert_eq!(of(&[(HEADER, digest), (HEADER, time)]), None);
}

#[test]
fn secrets_as_people_get_them_wrong() {
    check(SPARE, BODY, BODY, &["other_secret"]);
    check("wsec_4f1d\n", BODY, BODY, &["secret_with_blanks"]);
    check("wsec_4f1d\r\n", BODY, BODY, &["secret_with_blanks"]);
    check("wsec_4f1d ", BODY, BODY, &["secret_with_blanks"]);
    check("\"wsec_4f1d\"", BODY, BODY, &["secret_with_quotes"]);
    check("4f1d", BODY, BODY, &["secret_without_prefix"]);
    check("O\x1d", BODY, BODY, &["secret_decoded"]);
    check("", BODY, BODY, &["secret_unset"]);
    check("undefined", BODY, BODY, &["secret_unset"]);
    check("None", BODY, BODY, &["secret_unset"]);
}

#[test]
fn times_off() {
    let at = |at: i64| sign(SECRET.as_bytes(), at, BODY.as_bytes());
    check_header(HEADER, &at(NOW * 1000 + 123), &["milliseconds"]);
    check_header(HEADER, &at(NOW - 1801), &["too_old"]);
    check_header(HEADER, &at(NOW + 3600), &["from_the_future"]);
    check_header(HEADER, &at((NOW - 86_400) * 1000), &["milliseconds", "too_old"]);
    check_header(HEADER, &at(NOW * 1000).replace("000,", ","), &["milliseconds"]);
    let zone = explain(&[(HEADER, &at(NOW - 7200))], BODY.as_bytes());
    assert!(
        zone.summary()
            .ends_with("2 h 0 min before it came; 30 min are allowed (whole hours: is a local time taken for UTC?)")
    );
    let fraction = format!("t={NOW}.5,v0={}", hex(&mac_of(SECRET.as_bytes(), &[b"1790855035.5.", BODY.as_bytes()])));
    check_header(HEADER, &fraction, &["no_whole_seconds"]);
}

#[test]
fn headers_of_other_names_and_spellings() {
    let value = sign(SECRET.as_bytes(), NOW, BODY.as_bytes());
    check_header("X-ElevenLabs-Signature", &value, &["other_header"]);
    check_header("HTTP_ELEVENLABS_SIGNATURE", &value, &["other_header"]);
    let digest = mac_of(SECRET.as_bytes(), &[NOW.to_string().as_bytes(), b".", BODY.as_bytes()]);
    check_header(HEADER, &format!("t={NOW},v0={}", BASE64_STANDARD.encode(digest)), &["base64_digest"]);
    check_header(HEADER, &format!("t={NOW},sha256={}", hex(&digest)), &["other_tag"]);
    check_header(HEADER, &value.to_uppercase().replace("T=", "t=").replace("V0", "v0"), &["uppercase_hex"]);
    check_header(HEADER, &value.replace(',', ", "), &["blanks"]);
    check_header("Content-Length", "7", &["no_signature"]);
    check_header(HEADER, "", &["malformed_header"]);
    check_header(HEADER, "t=1,v0=abc", &["malformed_header"]);
    let alone = hex(&mac_of(SECRET.as_bytes(), &[BODY.as_bytes()]));
    check_header(HEADER, &format!("t={NOW},v0={alone}"), &["other_message_signed"]);
    check_header(HEADER, &alone, &["malformed_header", "malformed_header", "other_message_signed"]);
}

#[test]
fn schemes_of_others() {
    let value = sign(SECRET.as_bytes(), NOW, BODY.as_bytes());
    check_header("Stripe-Signature", &value.replace("v0", "v1"), &["stripe_scheme"]);
    check_header(HEADER, &value.replace("v0", "v1"), &["stripe_scheme"]);
    let alone = hex(&mac_of(SECRET.as_bytes(), &[BODY.as_bytes()]));
    check_header("X-Hub-Signature-256", &format!("sha256={alone}"), &["github_scheme"]);
    let (now, key) = (NOW.to_string(), BASE64_STANDARD.decode("d3NlYw==").unwrap());
    let digest = BASE64_STANDARD.encode(mac_of(&key, &[b"msg_1.", now.as_bytes(), b".", BODY.as_bytes()]));
    for prefix in ["webhook", "svix"] {
        let headers = [
            (format!("{prefix}-id"), "msg_1".to_owned()),
            (format!("{prefix}-timestamp"), now.clone()),
            (format!("{prefix}-signature"), format!("v1,AAAA v1,{digest}")),
        ];
        let secrets = [KnownSecret { label: "a", secret: b"whsec_d3NlYw==", in_use: true }];
        let diagnosis = diagnose(&Request {
            headers: &headers,
            body: BODY.as_bytes(),
            received_at: NOW,
            tolerance_secs: 1800,
            secrets: &secrets,
            budget: 1 << 20,
        });
        assert_eq!(codes(&diagnosis), ["standard_webhooks_scheme"], "{}", diagnosis.summary());
    }
}

#[test]
fn two_mistakes_at_once_are_both_named() {
    check(SPARE, BODY, &format!("{BODY}\n"), &["newline_added", "other_secret"]);
    let value = sign(SPARE.as_bytes(), NOW - 4000, BODY.as_bytes());
    check_header("X-Signature", &value, &["other_header", "other_secret", "too_old"]);
}

#[test]
fn nothing_is_guessed() {
    let value = sign(b"an unknown secret", NOW, BODY.as_bytes());
    let diagnosis = explain(&[(HEADER, &value)], BODY.as_bytes());
    assert!(matches!(&diagnosis, Diagnosis::Unexplained { unfinished: false, .. }), "{diagnosis:?}");
    assert_eq!(diagnosis.summary(), "none of the known causes fits");
    let old = explain(&[(HEADER, &value.replace("t=17", "t=16"))], BODY.as_bytes());
    assert!(
        matches!(&old, Diagnosis::Unexplained { hints, .. } if hints.iter().any(|hint| hint.contains("out of bounds")))
    );
    // The value of a forged body does not come to fit by chance either.
    let value = sign(SECRET.as_bytes(), NOW, b"{\"another\": 1}");
    assert!(matches!(explain(&[(HEADER, &value)], BODY.as_bytes()), Diagnosis::Unexplained { .. }));
}

#[test]
fn the_search_stops_at_its_budget_and_says_so() {
    let headers = [(HEADER.to_owned(), sign(SPARE.as_bytes(), NOW, BODY.as_bytes()))];
    let secrets = [KnownSecret { label: "a", secret: SECRET.as_bytes(), in_use: true }];
    let request = |budget| Request {
        headers: &headers,
        body: BODY.as_bytes(),
        received_at: NOW,
        tolerance_secs: 1800,
        secrets: &secrets,
        budget,
    };
    assert!(matches!(diagnose(&request(1000)), Diagnosis::Unexplained { unfinished: true, .. }));
    assert!(matches!(diagnose(&request(1 << 20)), Diagnosis::Unexplained { unfinished: false, .. }));
}

#[test]
fn no_secret_is_shown() {
    let known = KnownSecret { label: "a", secret: b"hunter2", in_use: true };
    assert!(!format!("{known:?}").contains("hunter2"));
}
