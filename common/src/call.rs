//! The state of a call.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Timestamp;
use crate::text_enum::text_enum;

text_enum! {
    /// The status of a call. An ended call (`completed`, `failed`) never returns to one of the first two.
    CallStatus, "call status" {
        /// The call was registered, and no turn has arrived yet.
        Initiated = "initiated",
        /// A turn has arrived. A call that was made by a webhook starts with this status.
        InProgress = "in_progress",
        /// The call ended, and the provider reports no failure.
        Completed = "completed",
        /// The call ended with a failure.
        Failed = "failed",
    }
}

impl CallStatus {
    /// Whether the call is over.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// The result of an ended call: the `call_data` of a `call_completed` message.
///
/// `analysis_data` and `metadata` are the provider's JSON, passed on unchanged.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallData {
    /// The status at the end.
    pub status: CallStatus,
    /// The subject that the call was registered with.
    #[serde(default)]
    pub subject: Option<String>,
    /// When the call began.
    #[serde(default)]
    pub call_start_time: Option<Timestamp>,
    /// When the call ended.
    #[serde(default)]
    pub call_end_time: Option<Timestamp>,
    /// The length of the call in whole seconds.
    #[serde(default)]
    pub duration_seconds: Option<i64>,
    /// The provider's summary.
    #[serde(default)]
    pub transcript_summary: Option<String>,
    /// The cost in the provider's credits.
    #[serde(default)]
    pub cost: Option<serde_json::Number>,
    /// The cost in US dollars.
    #[serde(default)]
    pub cost_fiat: Option<serde_json::Number>,
    /// Whether the provider rates the call as successful; `None` if the provider does not say.
    #[serde(default)]
    pub call_successful: Option<bool>,
    /// Why the call failed, in the provider's words.
    #[serde(default)]
    pub failure_reason: Option<String>,
    /// The provider's `analysis` object.
    #[serde(default)]
    pub analysis_data: Option<Box<RawValue>>,
    /// The provider's `metadata` object.
    #[serde(default)]
    pub metadata: Option<Box<RawValue>>,
}

impl CallData {
    /// Makes a result with a status and nothing else.
    #[must_use]
    pub fn new(status: CallStatus) -> Self {
        Self {
            status,
            subject: None,
            call_start_time: None,
            call_end_time: None,
            duration_seconds: None,
            transcript_summary: None,
            cost: None,
            cost_fiat: None,
            call_successful: None,
            failure_reason: None,
            analysis_data: None,
            metadata: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_reads_back_to_the_last_digit() {
        let stored = r#""cost_fiat":1.234567890123457e+31"#;
        let data: CallData = serde_json::from_str(&format!(r#"{{"status":"completed",{stored}}}"#)).unwrap();
        assert!(serde_json::to_string(&data).unwrap().contains(stored));
    }

    #[test]
    fn statuses_read_back_as_they_are_shown() {
        for status in CallStatus::ALL {
            assert_eq!(status.to_string().parse(), Ok(*status));
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{status}\""));
        }
        let unknown = "done".parse::<CallStatus>().unwrap_err().to_string();
        assert_eq!(unknown, "not a call status; one of initiated, in_progress, completed, failed");
    }
}
