//! A call's result in words.

use callscope_common::CallData;
use callscope_common::transcript::clock;

/// A call's result: how it ended, how long it took and what it cost; then the reason or summary, where there is one.
/// As it came: untrusted.
pub fn outcome(data: &CallData) -> (String, Option<String>) {
    let mut parts = vec![match data.call_successful {
        Some(true) => format!("call {}, successful", data.status),
        Some(false) => format!("call {}, not successful", data.status),
        None => format!("call {}", data.status),
    }];
    #[allow(clippy::cast_precision_loss)]
    parts.extend(data.duration_seconds.map(|secs| clock(secs as f64)));
    parts.extend(
        data.cost
            .as_ref()
            .map(|cost| format!("{cost} {}", if cost.as_u64() == Some(1) { "credit" } else { "credits" })),
    );
    parts.extend(data.cost_fiat.as_ref().map(|cost| format!("{cost} USD")));
    parts.extend(said(data.failure_reason.as_ref()));
    (parts.join("; "), said(data.transcript_summary.as_ref()))
}

fn said(text: Option<&String>) -> Option<String> {
    text.map(|text| text.trim()).filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_known_and_nothing_else() {
        let data: CallData = serde_json::from_str(
            r#"{"status":"completed","call_successful":true,"duration_seconds":41,"cost":74,"cost_fiat":0.05,
            "transcript_summary":"A tow truck was sent.\n"}"#,
        )
        .unwrap();
        let (line, summary) = outcome(&data);
        assert_eq!(line, "call completed, successful; 00:41; 74 credits; 0.05 USD");
        assert_eq!(summary.as_deref(), Some("A tow truck was sent."));
        let data: CallData = serde_json::from_str(r#"{"status":"failed","failure_reason":"busy"}"#).unwrap();
        assert_eq!(outcome(&data), ("call failed; busy".into(), None));
    }
}
