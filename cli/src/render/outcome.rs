//! Puts the result of a call into words.

use std::fmt;

use callscope_common::transcript::clock;
use callscope_common::{CallData, CallStatus, json};

/// A part of a call's result. Its texts are from the server and not sanitised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// How the call ended, how long it took and what it cost.
    Outcome {
        text: String,
        /// Whether the call was successful, if that is known.
        good: Option<bool>,
    },
    /// The provider's summary of the conversation.
    Summary(String),
    /// The result of one criterion of the provider's evaluation.
    Criterion {
        name: String,
        /// The verdict in words.
        result: String,
        /// The provider's rationale.
        why: Option<String>,
        /// Whether the criterion was met, if the result says so.
        good: Option<bool>,
    },
    /// A value that the provider's data collection extracted from the call.
    Datum {
        name: String,
        /// The text of a string, or any other value as JSON.
        value: String,
    },
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outcome { text, .. } | Self::Summary(text) => f.write_str(text),
            Self::Criterion { name, result, why: Some(why), .. } => write!(f, "{name}: {result} ({why})"),
            Self::Criterion { name, result, why: None, .. } => write!(f, "{name}: {result}"),
            Self::Datum { name, value } => write!(f, "{name} = {value}"),
        }
    }
}

/// Returns how the call ended, its summary, the results of its evaluation and the collected data.
pub(crate) fn parts(data: &CallData) -> Vec<Part> {
    let (text, summary) = outcome(data);
    let good = if data.status == CallStatus::Failed { Some(false) } else { data.call_successful };
    let mut parts = vec![Part::Outcome { text, good }];
    parts.extend(summary.map(Part::Summary));
    let analysis = data.analysis_data.as_deref().and_then(json::object);
    let Some(analysis) = analysis else { return parts };
    if let Some(criteria) = analysis.object("evaluation_criteria_results") {
        parts.extend(criteria.iter().map(|(name, value)| criterion(name, value)));
    }
    if let Some(data) = analysis.object("data_collection_results") {
        parts.extend(data.iter().filter_map(|(name, value)| datum(name, value)));
    }
    parts
}

fn criterion(name: &str, value: &serde_json::value::RawValue) -> Part {
    let object = json::object(value);
    let result = object.as_ref().and_then(|object| object.text("result")).unwrap_or_else(|| "unknown".into());
    let why = object.and_then(|object| non_blank(object.string("rationale").as_ref()));
    let good = match result.as_str() {
        "success" | "true" => Some(true),
        "failure" | "false" => Some(false),
        _ => None,
    };
    Part::Criterion { name: name.to_owned(), result, why, good }
}

fn datum(name: &str, value: &serde_json::value::RawValue) -> Option<Part> {
    let value = json::object(value)?.text("value")?;
    Some(Part::Datum { name: name.to_owned(), value })
}

/// Returns two texts: how the call ended, how long it took, what it cost and why it failed; and the summary, if there
/// is one. Both are not sanitised.
pub(crate) fn outcome(data: &CallData) -> (String, Option<String>) {
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
    parts.extend(non_blank(data.failure_reason.as_ref()));
    (parts.join("; "), non_blank(data.transcript_summary.as_ref()))
}

fn non_blank(text: Option<&String>) -> Option<String> {
    text.map(|text| text.trim()).filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn data(json: &str) -> CallData {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn only_known_facts_are_named() {
        let call_data = data(
            r#"{"status":"completed","call_successful":true,"duration_seconds":41,"cost":74,"cost_fiat":0.05,
            "transcript_summary":"A tow truck was sent.\n"}"#,
        );
        let (line, summary) = outcome(&call_data);
        assert_eq!(line, "call completed, successful; 00:41; 74 credits; 0.05 USD");
        assert_eq!(summary.as_deref(), Some("A tow truck was sent."));
        let call_data = data(r#"{"status":"failed","failure_reason":"busy"}"#);
        assert_eq!(outcome(&call_data), ("call failed; busy".into(), None));
    }

    #[test]
    fn evaluation_and_data_follow_in_their_order() {
        let call_data = data(
            r#"{"status":"completed","analysis_data":{"evaluation_criteria_results":{"safe":{"result":"success","rationale":"Asked first."},
            "odd":7,"polite":{"result":"failure"}},"data_collection_results":{"place":{"value":"A10"},"dogs":{"value":1},"none":{"value":null}}}}"#,
        );
        let words: Vec<String> = parts(&call_data).iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "call completed",
                "safe: success (Asked first.)",
                "odd: unknown",
                "polite: failure",
                "place = A10",
                "dogs = 1"
            ]
        );
    }

    #[test]
    fn an_analysis_of_an_unknown_shape_is_ignored() {
        for odd in ["null", "[]", "7", r#"{"evaluation_criteria_results":[1],"data_collection_results":"x"}"#] {
            let call_data = data(&format!(r#"{{"status":"completed","analysis_data":{odd}}}"#));
            assert_eq!(parts(&call_data).len(), 1, "{odd}");
        }
    }
}
