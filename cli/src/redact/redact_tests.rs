#![allow(clippy::unwrap_used)]

use super::*;

fn people(text: &str) -> String {
    Redactor::new(true, Vec::new()).document(text).unwrap()
}

fn paths(text: &str, paths: &[&str]) -> String {
    let paths = paths.iter().map(|path| path.parse().unwrap()).collect();
    Redactor::new(false, paths).document(text).unwrap()
}

#[test]
fn numbers_addresses_and_names_are_replaced_wherever_they_stand() {
    let text = r#"{"type":"post_call_transcription","data":{"metadata":{"phone_call":{"external_number":"+49 30 901820","from":4930901820}},"conversation_initiation_client_data":{"dynamic_variables":{"customer_name":"María Lopez","mail":"m.lopez@firma.de"}},"transcript":[{"role":"user","message":"This is maria, María LOPEZ. Call (030) 901-820 or write to M.Lopez@firma.de."}]}}"#;
    let redacted = people(text);
    for left in ["30 901", "901-820", "4930901820", "opez", "María", "firma"] {
        assert!(!redacted.contains(left), "{left} is left in {redacted}");
    }
    assert!(redacted.contains(r#""customer_name":"Person 1","mail":"person1@example.com""#), "{redacted}");
    assert!(redacted.contains("write to person1@example.com."), "{redacted}");
    assert!(redacted.contains(r#""external_number":"+15550100001","from":15550100001"#), "{redacted}");
}

#[test]
fn what_is_no_person_keeps_its_every_byte() {
    for kept in [
        r#"{ "type":"x","event_timestamp":1739537297,"data":{"conversation_id":"conv_01callscope0tow0truck00000001","cost":1.50,"big":1e400}}"#,
        r#"{"a":"2026-10-01T14:00:31.123456Z","b":"EL_desk_1790855035","c":"CA0123456789abcdef0123456789abcdef","d":"0.1234567"}"#,
        r#"{"message":"The A10, exit 22, 2026-10-01, 35 minutes, 1,000,000 dollars","start_time":"1739537297","agent_name":"Nova"}"#,
        r#"{"a":{"b":{"c":[null,true,{"d":"é"}]}},"a":2}"#,
        r#"[]"#,
        r#""text""#,
    ] {
        assert_eq!(people(kept), kept.replace("{ ", "{"));
    }
}

#[test]
fn the_same_person_is_the_same_throughout_an_export() {
    let mut redactor = Redactor::new(true, Vec::new());
    let one = redactor.document(r#"{"name":"Ada","email":"ada@a.org","phone":"0301234567"}"#).unwrap();
    let other = redactor.document(r#"{"name":"Bob","phone":"030 7654321","note":"Ada is elsewhere"}"#).unwrap();
    let again = redactor.document(r#"{"phone":"030 123 4567","name":"ADA"}"#).unwrap();
    assert_eq!(one, r#"{"name":"Person 1","email":"person1@example.com","phone":"+15550100001"}"#);
    // Names are known in their own document only: elsewhere the word may be another.
    assert_eq!(other, r#"{"name":"Person 2","phone":"+15550100002","note":"Ada is elsewhere"}"#);
    assert_eq!(again, r#"{"phone":"+15550100001","name":"Person 1"}"#);
}

/// JSON types phone numbers as it likes.
#[test]
fn numbers_that_are_no_texts_are_replaced_too() {
    for (text, secret) in [
        (
            r#"{"type":"call_initiation_failure","data":{"metadata":{"body":{"from_number":12025550199}}}}"#,
            "12025550199",
        ),
        (r#"{"data":{"conversation_initiation_client_data":{"dynamic_variables":{"n":2025550143}}}}"#, "2025550143"),
        (r#"{"to":2025550143.0}"#, "2025550143"),
        (r#"{"phone":2.025550143e9}"#, "2.0255"),
        (r#"{"phone":{"country":1,"local":5550143}}"#, "5550143"),
        (r#"{"phone":[4711,"0815"]}"#, "4711"),
        (r#"{"phone":[4711,"0815"]}"#, "0815"),
        (
            r#"{"data_collection_results":{"callback":{"data_collection_id":"callback","value":2025550143}}}"#,
            "2025550143",
        ),
        (r#"{"data_collection_results_list":[{"data_collection_id":"phone","value":5550143}]}"#, "5550143"),
        (r#"{"params_as_json":"{\"phone\": 5550143}"}"#, "5550143"),
        (r#"{"customer_name":4711}"#, "4711"),
        (r#"{"caller_id":5550143}"#, "5550143"),
    ] {
        let redacted = people(text);
        assert!(!redacted.contains(secret), "{secret} is left in {redacted}");
        assert!(serde_json::from_str::<serde_json::Value>(&redacted).is_ok(), "{redacted}");
    }
    assert_eq!(people(r#"{"to":2025550143,"note":"+1 202 555 0143"}"#).matches("15550100001").count(), 1);
    assert_eq!(people(r#"{"from":"2025550143","to":2025550143}"#), r#"{"from":"+15550100001","to":15550100001}"#);
}

#[test]
fn digits_of_any_script_are_digits() {
    for text in [
        "٠٣٠ ٩٠١ ٨٢٠ ٧٧",
        "۰۳۰۹۰۱۸۲۰۷۷",
        "०३०-९०१-८२०-७७",
        "電話は０３０９０１８２０７７です",
        "＋０３（０９０）１８２０‐７７",
        "٠٣٠\u{200e}٩٠١\u{200e}٨٢٠\u{200e}٧٧",
        "๐๓๐๙๐๑๘๒๐๗๗",
    ] {
        let redacted = people(&serde_json::json!({ "message": text }).to_string());
        assert!(redacted.contains("+15550100001"), "{text}: {redacted}");
    }
    // The same number in another script is the same one.
    let both = people(r#"{"a":"call 03090182077","b":"०३०९०१८२०७७"}"#);
    assert_eq!(both, r#"{"a":"call +15550100001","b":"+15550100001"}"#);
}

#[test]
fn people_in_variables_and_collected_data() {
    let text = r#"{"conversation_initiation_client_data":{"dynamic_variables":{"system__agent_name":"Nova","client":"Ada","booked_for":"Grace Hopper","plan":"gold","patient_full_name":"Alan Turing"}},"analysis":{"data_collection_results":{"who_called":{"data_collection_id":"who_called","value":"Maria van Dijk","rationale":"The caller is Maria."},"mood":{"value":"calm"}}},"transcript":[{"message":"I am Ada, with Grace Hopper, Dr. Turing and maria."}],"tool":"{\"customer_name\":\"Joan Clarke\"}"}"#;
    let redacted = people(text);
    for left in ["Ada", "Grace", "Turing", "Maria", "maria.", "Dijk", "Joan"] {
        assert!(!redacted.contains(left), "{left} is left in {redacted}");
    }
    for kept in ["Nova", r#""plan":"gold""#, r#""value":"calm""#] {
        assert!(redacted.contains(kept), "{kept} is gone from {redacted}");
    }
}

#[test]
fn recordings_are_dropped() {
    let text = format!(r#"{{"type":"post_call_audio","data":{{"full_audio":"{}"}}}}"#, "QUJD".repeat(100));
    assert_eq!(people(&text), r#"{"type":"post_call_audio","data":{"full_audio":""}}"#);
}

#[test]
fn paths_name_what_else_is_to_go() {
    let text = r#"{"data":{"note":"secret","n":7,"list":[{"m":"a"},{"m":"b"}],"deep":{"x":{"y":true}}}}"#;
    assert_eq!(
        paths(text, &["data.note", "data.n", "data.list[*].m", "data.deep.*.y"]),
        r#"{"data":{"note":"[redacted]","n":0,"list":[{"m":"[redacted]"},{"m":"[redacted]"}],"deep":{"x":{"y":null}}}}"#
    );
    assert_eq!(paths(text, &["$.data.list[1]"]), text.replace(r#"{"m":"b"}"#, "null"));
    let mut redactor = Redactor::new(false, vec!["data.note".parse().unwrap(), "data.nota".parse().unwrap()]);
    redactor.document(text).unwrap();
    assert_eq!(redactor.unused().map(ToString::to_string).collect::<Vec<_>>(), ["data.nota"]);
    for wrong in ["", "a..b", "a[", "a[x]", "a[-1]"] {
        assert!(wrong.parse::<Path>().is_err(), "{wrong}");
    }
}

#[test]
fn odd_documents_are_refused_or_carried() {
    assert!(Redactor::new(true, Vec::new()).document("not json").unwrap_err().starts_with("not JSON"));
    assert_eq!(people(r#"{"m":"\ud83d"}"#), r#"{"m":"\ufffd"}"#);
    assert_eq!(people(r#"{"cost":NaN}"#), r#"{"cost":null}"#);
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(people(&deep).contains("null"));
}
