//! Deliveries, and webhooks that did not verify.

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
    /// The verdict on a delivery.
    Verdict, "verdict" {
        /// It took effect.
        Accepted = "accepted",
        /// It repeats an earlier delivery.
        Duplicate = "duplicate",
        /// It was stored and had no effect.
        Ignored = "ignored",
        /// It was refused.
        Rejected = "rejected",
        /// Its signature did not verify. Only an [`Attempt`] is kept of it, in memory.
        Unverified = "unverified",
    }
}

/// A delivery, as `/api/v1/admin/deliveries` lists it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveryView {
    /// The id of the delivery, which the server generated on receipt.
    pub delivery_id: Uuid,
    /// The route that received it.
    pub route: OrUnknown<WebhookRoute>,
    /// The envelope's `type`; `turn` or `partial` for turns.
    pub kind: Option<String>,
    /// The verdict on the delivery.
    pub verdict: OrUnknown<Verdict>,
    /// Why the delivery was not accepted.
    pub reason: Option<String>,
    /// When the delivery was received.
    pub received_at: Timestamp,
    /// The address of the sender.
    pub remote_addr: Option<String>,
    /// The call that the delivery belongs to.
    pub call_id: Option<CallId>,
    /// The sid of that call.
    #[serde(default)]
    pub call_sid: Option<String>,
    /// The conversation id of that call, once known.
    #[serde(default)]
    pub conversation_id: Option<String>,
    /// The HTTP status of the answer.
    pub response_status: i64,
    /// The body's length in bytes.
    pub body_bytes: i64,
}

/// `GET /api/v1/admin/deliveries`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveryList {
    /// The deliveries of this page, newest first.
    pub deliveries: Vec<DeliveryView>,
    /// The value of `cursor` for the next page; `None` on the last page.
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
    /// The headers in their order: `[[name, value], …]`.
    pub headers: Box<RawValue>,
    /// The body as it was received; `None` if it is not UTF-8 or was dropped.
    #[serde(default)]
    pub body: Option<String>,
    /// The bytes of the body in Base64; `None` if they were dropped.
    #[serde(default)]
    pub body_base64: Option<String>,
    /// Whether retention has dropped the headers and the body.
    #[serde(default)]
    pub body_dropped: bool,
    /// The body of the answer.
    #[serde(default)]
    pub response: String,
    /// The events that the delivery caused, as the messages that the WebSocket sends.
    #[serde(default)]
    pub events: Vec<Box<RawValue>>,
}

impl WholeDelivery {
    /// Returns the names and values of the headers, in their order.
    ///
    /// # Errors
    /// Returns an error if `headers` is not a list of pairs.
    pub fn headers(&self) -> Result<Vec<(String, String)>, serde_json::Error> {
        serde_json::from_str(self.headers.get())
    }
}

/// The body of `POST /api/v1/admin/deliveries/{id}/replay`, which may be empty.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplayOptions {
    /// Whether the replay takes effect even if the original did.
    pub as_new: bool,
}

/// The answer of `POST /api/v1/admin/deliveries/{id}/replay`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Replayed {
    /// The new delivery.
    #[serde(flatten)]
    pub delivery: DeliveryView,
    /// The delivery that was replayed.
    pub replay_of: Uuid,
    /// Whether the replay took effect even if the original did.
    pub as_new: bool,
    /// The body of the answer.
    pub response: String,
}

/// A webhook that did not verify, without its headers and body.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attempt {
    /// When it was received.
    pub at: Timestamp,
    /// The route that refused it.
    pub route: OrUnknown<WebhookRoute>,
    /// The address of the sender.
    pub remote_addr: Option<String>,
    /// Why it was refused, as the answer said.
    pub reason: String,
    /// The code of the likely cause; `None` if it was not looked for.
    #[serde(default)]
    pub diagnosis: Option<String>,
    /// The server process that refused it.
    #[serde(default)]
    pub node: String,
}

/// `GET /api/v1/admin/deliveries?verdict=unverified`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttemptList {
    /// Always empty, because webhooks that did not verify are not stored.
    pub deliveries: Vec<DeliveryView>,
    /// Webhooks that did not verify, newest first.
    pub unverified: Vec<Attempt>,
    /// How many there were since the servers started. The oldest are counted, but not listed any more.
    pub total: u64,
    /// The server processes with a recent heartbeat.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// The processes among `nodes` that did not answer in time. Their attempts are missing in the list.
    #[serde(default)]
    pub silent_nodes: Vec<String>,
    /// Always `None`, because there is only one page.
    pub next_cursor: Option<String>,
}
