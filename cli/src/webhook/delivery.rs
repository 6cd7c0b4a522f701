//! A webhook request that is to be sent.

use callscope_common::api::WebhookRoute;

#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) route: WebhookRoute,
    /// The webhook's type, or `turn`.
    pub(crate) kind: String,
    pub(crate) body: Vec<u8>,
    /// Distinguishes a retry of this delivery from another delivery with the same body; `None` if the body has an id.
    pub(crate) idempotency_key: Option<String>,
    /// The headers of a recorded delivery, which are sent instead of newly signed ones.
    pub(crate) headers: Option<Vec<(String, String)>>,
}
