//! The JSON bodies of the HTTP API.

mod admin;
mod calls;
mod deliveries;
mod health;
mod stats;
mod webhooks;

use serde::{Deserialize, Serialize};

use crate::{ErrorCode, OrUnknown};
pub use admin::{ConnectionList, ConnectionView, SubscriptionList, SubscriptionView};
pub use calls::{CallList, CallPatch, CallView, EventList, NewCall, TranscriptSource, TranscriptView, TurnView};
pub use deliveries::{
    Attempt, AttemptList, DeliveryList, DeliveryView, ReplayOptions, Replayed, Verdict, WebhookRoute, WholeDelivery,
};
pub use health::{Health, ReadinessChecks, ReadinessView};
pub use stats::{NodeStats, NodeView, Stats};
pub use webhooks::{PostCallAnswer, TurnAnswer};

/// The body of every error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Always `error`.
    pub status: String,
    /// What was wrong.
    pub message: String,
    /// Where it was wrong, or what to do.
    pub details: Option<String>,
    /// The stable name of the error, for programs. Absent from servers of earlier versions.
    #[serde(default)]
    pub code: Option<OrUnknown<ErrorCode>>,
}
