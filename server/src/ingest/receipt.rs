//! Renders the answers to webhooks: a [`Receipt`] as an HTTP status and a JSON body.
//!
//! An answer is rendered once, stored with its delivery, and sent again to each repeat. So a change in this file
//! affects new deliveries only.

use callscope_common::api::ErrorBody;
use callscope_common::{CallStatus, ErrorCode};
use serde::Serialize;

use crate::log::{Answer, CallState, Receipt};

/// Renders a receipt.
#[must_use]
pub fn render(receipt: &Receipt<'_>) -> Answer {
    let reason = receipt.reason().unwrap_or_default();
    match *receipt {
        Receipt::TurnAppended { transcription_id, sequence_number, seq, call_sid } => {
            let message = "transcription stored";
            json_answer(
                201,
                &TurnAnswer { status: "success", message, transcription_id, sequence_number, seq, call_sid },
            )
        }
        Receipt::PartialTurn { call_sid, .. } => {
            json_answer(200, &PartialAnswer { status: "success", message: "partial broadcast", call_sid })
        }
        Receipt::Processed(call) => post_call_answer("webhook processed", call),
        Receipt::Ignored { call, .. } => post_call_answer("kept as received", call),
        Receipt::Unreadable { status, message, details } => {
            let code = if status == 413 { ErrorCode::PayloadTooLarge } else { ErrorCode::InvalidPayload };
            error_answer(status, message, details, code)
        }
        Receipt::UnknownCall => {
            error_answer(404, reason, Some("register it with POST /api/v1/calls"), ErrorCode::CallNotFound)
        }
        Receipt::IdempotencyKeyReused => error_answer(409, reason, None, ErrorCode::IdempotencyConflict),
    }
}

#[derive(Serialize)]
struct TurnAnswer<'a> {
    status: &'a str,
    message: &'a str,
    transcription_id: i64,
    sequence_number: i64,
    seq: i64,
    call_sid: &'a str,
}

#[derive(Serialize)]
struct PartialAnswer<'a> {
    status: &'a str,
    message: &'a str,
    call_sid: &'a str,
}

#[derive(Serialize)]
struct PostCallAnswer<'a> {
    status: &'a str,
    message: &'a str,
    conversation_id: Option<&'a str>,
    call_sid: Option<&'a str>,
    call_status: Option<&'a str>,
}

fn post_call_answer(message: &str, CallState { conversation_id, call_sid, status }: CallState<'_>) -> Answer {
    let call_status = status.map(CallStatus::as_str);
    json_answer(200, &PostCallAnswer { status: "success", message, conversation_id, call_sid, call_status })
}

fn json_answer(status: u16, body: &impl Serialize) -> Answer {
    Answer { status, body: serde_json::to_string(body).expect("an answer is JSON").into() }
}

fn error_answer(status: u16, message: &str, details: Option<&str>, code: ErrorCode) -> Answer {
    let (message, details) = (message.to_owned(), details.map(ToOwned::to_owned));
    json_answer(status, &ErrorBody { status: "error".into(), message, details, code: Some(code.into()) })
}
