//! One request as it is sent.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// One live turn.
    Turn,
    /// What comes after a call.
    PostCall,
}

impl Route {
    /// The last part of its path.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Turn => "transcription",
            Self::PostCall => "post-call",
        }
    }
}

/// A body on its way.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) route: Route,
    /// The webhook's type, or `turn`.
    pub(crate) kind: String,
    /// Sent byte for byte, as often as it takes.
    pub(crate) body: Vec<u8>,
    /// Tells a repeat of this delivery from another that says the same; `None` where the body does that itself.
    pub(crate) idempotency_key: Option<String>,
    /// The headers of a recorded delivery, which are sent instead of a new signature.
    pub(crate) headers: Option<Vec<(String, String)>>,
}
