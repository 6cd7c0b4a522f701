//! ElevenLabs' webhooks, and the turn webhook that goes with them.
//!
//! Follows the vendor's `GetConversationResponseModel` (Python SDK 2.78.0) for `post_call_transcription`, and captured
//! payloads for the others. The vendor treats every enum as open and most fields as optional, so a webhook is refused
//! only if it has no type or no conversation id, without which it is useless.

mod post_call;
mod turn;

pub use post_call::post_call;
pub use turn::turn;

use callscope_common::Identifier;
use callscope_common::json::Object;
use serde_json::value::RawValue;

use crate::log::Change;

/// What is wrong with a payload, and where.
struct PayloadError {
    status: u16,
    message: String,
    details: Option<String>,
}

fn invalid<T>(message: &str, details: impl Into<String>) -> Result<T, PayloadError> {
    Err(PayloadError { status: 400, message: message.into(), details: Some(details.into()) })
}

impl From<PayloadError> for Change {
    fn from(PayloadError { status, message, details }: PayloadError) -> Self {
        Self::Rejected { status, message, details }
    }
}

fn object(body: &str) -> Result<Object<'_>, PayloadError> {
    Object::parse(body).or_else(|error| match serde_json::from_str::<&RawValue>(body) {
        Ok(_) => invalid("the body is no JSON object", "expected {…}"),
        Err(_) => invalid("the body is not JSON", error.to_string()),
    })
}

fn name(fields: &Object<'_>, key: &str) -> Result<Option<Identifier>, PayloadError> {
    let Some(value) = fields.get(key) else { return Ok(None) };
    let Some(text) = callscope_common::json::string(value) else {
        return invalid(&format!("`{key}` is no text"), "1 to 128 visible ASCII characters");
    };
    Identifier::parse(&text).map(Some).or_else(|error| invalid(&format!("`{key}` is no identifier"), error.to_string()))
}
