//! A webhook request that is to be sent.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WebhookRoute {
    Turn,
    PostCall,
}

impl WebhookRoute {
    /// Returns the last segment of the route's path.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Turn => "transcription",
            Self::PostCall => "post-call",
        }
    }
}

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
