//! Renders the answers to webhooks: a [`Receipt`] as an HTTP status and a JSON body.
//!
//! An answer is rendered once, stored with its delivery, and sent again to each repeat. So a change in this file
//! affects new deliveries only.

use callscope_common::ErrorCode;
use callscope_common::api::{ErrorBody, PostCallAnswer, TurnAnswer};
use serde::Serialize;

use crate::log::{Answer, CallState, Receipt};

/// The `status` of an answer that is no error.
const SUCCESS: &str = "success";

/// Renders a receipt.
#[must_use]
pub fn render(receipt: &Receipt<'_>) -> Answer {
    let reason = receipt.reason().unwrap_or_default();
    match *receipt {
        Receipt::TurnAppended { transcription_id, sequence_number, seq, call_sid } => {
            let answer = TurnAnswer {
                transcription_id: Some(transcription_id),
                sequence_number: Some(sequence_number),
                seq: Some(seq),
                ..turn_answer("transcription stored", call_sid)
            };
            json_answer(201, &answer)
        }
        Receipt::PartialTurn { call_sid, .. } => json_answer(200, &turn_answer("partial broadcast", call_sid)),
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

fn turn_answer<'a>(message: &'a str, call_sid: &'a str) -> TurnAnswer<'a> {
    TurnAnswer {
        status: SUCCESS.into(),
        message: message.into(),
        transcription_id: None,
        sequence_number: None,
        seq: None,
        call_sid: call_sid.into(),
    }
}

fn post_call_answer(message: &str, CallState { conversation_id, call_sid, status }: CallState<'_>) -> Answer {
    let answer = PostCallAnswer {
        status: SUCCESS.into(),
        message: message.into(),
        conversation_id: conversation_id.map(Into::into),
        call_sid: call_sid.map(Into::into),
        call_status: status.map(Into::into),
    };
    json_answer(200, &answer)
}

fn json_answer(status: u16, body: &impl Serialize) -> Answer {
    Answer { status, body: serde_json::to_string(body).expect("an answer is JSON").into() }
}

fn error_answer(status: u16, message: &str, details: Option<&str>, code: ErrorCode) -> Answer {
    let (message, details) = (message.to_owned(), details.map(ToOwned::to_owned));
    json_answer(status, &ErrorBody { status: "error".into(), message, details, code: Some(code.into()) })
}
