//! Deliveries, and attempts that did not verify.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::text_enum::text_enum;
use crate::{CallId, OrUnknown, Timestamp};

text_enum! {
    /// The webhook routes.
    WebhookRoute, "webhook route" {
        /// `POST /webhooks/elevenlabs/transcription`
        Transcription = "transcription",
        /// `POST /webhooks/elevenlabs/post-call`
        PostCall = "post-call",
    }
}

text_enum! {
    /// What became of a delivery.
    Verdict, "verdict" {
        /// It took effect.
        Accepted = "accepted",
        /// It repeats an earlier delivery.
        Duplicate = "duplicate",
        /// It was stored and had no effect.
        Ignored = "ignored",
        /// It was refused.
        Rejected = "rejected",
        /// Its signature did not fit. Nothing of it is stored but an [`Attempt`].
        Unverified = "unverified",
    }
}

/// What came in, as `/api/v1/admin/deliveries` lists it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveryView {
    /// Made on receipt.
    pub delivery_id: Uuid,
    /// The route that received it.
    pub route: OrUnknown<WebhookRoute>,
    /// The envelope's `type`; `turn` or `partial` for turns.
    pub kind: Option<String>,
    /// What became of it.
    pub verdict: OrUnknown<Verdict>,
    /// Why, where it was not accepted.
    pub reason: Option<String>,
    /// When it came in.
    pub received_at: Timestamp,
    /// The address of the sender.
    pub remote_addr: Option<String>,
    /// The call it belongs to.
    pub call_id: Option<CallId>,
    /// That call's sid.
    #[serde(default)]
    pub call_sid: Option<String>,
    /// That call's conversation id, once known.
    #[serde(default)]
    pub conversation_id: Option<String>,
    /// The HTTP status it was answered with.
    pub response_status: i64,
    /// The body's length in bytes.
    pub body_bytes: i64,
}

/// `GET /api/v1/admin/deliveries`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveryList {
    /// The deliveries of this page, newest first.
    pub deliveries: Vec<DeliveryView>,
    /// Asks for the next page; `None` on the last.
    pub next_cursor: Option<String>,
}

/// `GET /api/v1/admin/deliveries/{id}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WholeDelivery {
    /// The delivery as lists show it.
    #[serde(flatten)]
    pub delivery: DeliveryView,
    /// The delivery that it repeats.
    #[serde(default)]
    pub duplicate_of: Option<Uuid>,
    /// `[[name, value], …]`, in their order.
    pub headers: Box<RawValue>,
    /// As received; `None` where it is not UTF-8, or not kept any more.
    #[serde(default)]
    pub body: Option<String>,
    /// As received, byte for byte; `None` where it is not kept any more.
    #[serde(default)]
    pub body_base64: Option<String>,
    /// Whether headers and body were dropped, by age or by size.
    #[serde(default)]
    pub body_dropped: bool,
    /// The body of its answer.
    #[serde(default)]
    pub response: String,
    /// The events it caused, as the WebSocket sends them.
    #[serde(default)]
    pub events: Vec<Box<RawValue>>,
}

impl WholeDelivery {
    /// Names and values of the headers, in their order.
    ///
    /// # Errors
    /// Returns an error if `headers` is no list of pairs.
    pub fn headers(&self) -> Result<Vec<(String, String)>, serde_json::Error> {
        serde_json::from_str(self.headers.get())
    }
}

/// The body of `POST /api/v1/admin/deliveries/{id}/replay`, which may be empty.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplayOptions {
    /// Whether it takes effect again.
    pub as_new: bool,
}

/// The answer of `POST /api/v1/admin/deliveries/{id}/replay`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Replayed {
    /// The delivery that came of it.
    #[serde(flatten)]
    pub delivery: DeliveryView,
    /// The delivery that was taken up once more.
    pub replay_of: Uuid,
    /// Whether it was to take effect again.
    pub as_new: bool,
    /// The body of the answer.
    pub response: String,
}

/// An attempt at a webhook that did not verify: the facts only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attempt {
    /// When it came in.
    pub at: Timestamp,
    /// The route that refused it.
    pub route: OrUnknown<WebhookRoute>,
    /// The address of the sender.
    pub remote_addr: Option<String>,
    /// What was wrong, as the sender heard it.
    pub reason: String,
    /// The likely cause, by name; `None` where it was not looked for.
    #[serde(default)]
    pub diagnosis: Option<String>,
    /// The server process that refused it.
    #[serde(default)]
    pub node: String,
}

/// `GET /api/v1/admin/deliveries?verdict=unverified`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttemptList {
    /// Always empty: nothing of what did not verify is kept but the facts.
    pub deliveries: Vec<DeliveryView>,
    /// Webhooks that did not verify, newest first.
    pub unverified: Vec<Attempt>,
    /// How many there were since each server started; older ones are counted and not kept.
    pub total: u64,
    /// The server processes that were seen lately.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Those of them that did not answer in time: their attempts are missing here.
    #[serde(default)]
    pub silent_nodes: Vec<String>,
    /// There is but one page.
    pub next_cursor: Option<String>,
}
