//! The answer to a webhook, as it is stored.

use std::sync::Arc;

/// The answer to a webhook. It is stored with the delivery, and repeats get the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The JSON of the answer.
    pub body: Arc<str>,
}
