//! One request as it is sent.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// One live turn.
    Turn,
    /// What comes after a call.
    PostCall,
}

impl Route {
    /// The last part of its path.
    pub fn name(self) -> &'static str {
        match self {
            Self::Turn => "transcription",
            Self::PostCall => "post-call",
        }
    }
}

/// A body on its way.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub route: Route,
    /// The webhook's type, or `turn`.
    pub kind: String,
    /// Sent byte for byte, as often as it takes.
    pub body: Vec<u8>,
    /// Tells a repeat of this delivery from another that says the same; `None` where the body does that itself.
    pub idempotency_key: Option<String>,
    /// The headers of a recorded delivery, which are sent instead of a new signature.
    pub headers: Option<Vec<(String, String)>>,
}
