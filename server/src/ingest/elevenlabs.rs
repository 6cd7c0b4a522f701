//! ElevenLabs' post-call webhooks, and the turn webhook that an agent's tool sends.
//!
//! Follows the vendor's `GetConversationResponseModel` (Python SDK 2.78.0) for `post_call_transcription`, and captured
//! payloads for the others. The vendor treats every enum as open and most fields as optional. So a post-call webhook is
//! rejected only if it has no type, or if a known type has no conversation id.

mod post_call;
mod turn;

pub use post_call::post_call;
pub use turn::turn;

use callscope_common::Identifier;
use callscope_common::json::Object;
use serde_json::value::RawValue;

use crate::log::Change;

/// Why a payload is rejected, as the answer says it.
struct PayloadError {
    status: u16,
    message: String,
    details: Option<String>,
}

/// Returns an error with status 400.
fn invalid<T>(message: &str, details: impl Into<String>) -> Result<T, PayloadError> {
    Err(PayloadError { status: 400, message: message.into(), details: Some(details.into()) })
}

impl From<PayloadError> for Change {
    fn from(PayloadError { status, message, details }: PayloadError) -> Self {
        Self::Rejected { status, message, details }
    }
}

fn parse_object(body: &str) -> Result<Object<'_>, PayloadError> {
    Object::parse(body).or_else(|error| match serde_json::from_str::<&RawValue>(body) {
        Ok(_) => invalid("the body is not a JSON object", "expected {…}"),
        Err(_) => invalid("the body is not JSON", error.to_string()),
    })
}

fn identifier(fields: &Object<'_>, key: &str) -> Result<Option<Identifier>, PayloadError> {
    let Some(value) = fields.get(key) else { return Ok(None) };
    let Some(text) = callscope_common::json::string(value) else {
        return invalid(&format!("`{key}` is not a string"), "1 to 128 visible ASCII characters");
    };
    Identifier::parse(&text)
        .map(Some)
        .or_else(|error| invalid(&format!("`{key}` is not an identifier"), error.to_string()))
}
