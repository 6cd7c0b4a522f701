//! `POST /webhooks/elevenlabs/…`: receives webhooks.

mod body;

use std::io::Cursor;
use std::sync::Arc;

use callscope_common::ErrorCode;
use callscope_common::api::WebhookRoute;
use rocket::data::Data;
use rocket::http::{ContentType, Status};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::response::{self, Responder, Response};
use rocket::{State, post};

use super::AppState;
use crate::http::error::ApiError;
use crate::ingest::signature::SignatureRefusal;
use crate::ingest::{IngestError, WebhookRequest};
use crate::log::Answer;

/// Maximum length of a turn's body, in bytes.
const MAX_TURN_BYTES: u64 = 1 << 20;

/// The head of a webhook request.
pub struct WebhookHead {
    headers: Vec<(String, String)>,
    remote_addr: Option<String>,
    /// The first `Content-Length`, if it is a number.
    content_length: Option<u64>,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for WebhookHead {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        let mut content_length = None;
        let headers = request.headers().iter().map(|header| {
            if content_length.is_none() && header.name().as_str().eq_ignore_ascii_case("Content-Length") {
                content_length = header.value().parse().ok();
            }
            (header.name().to_string(), header.value().to_owned())
        });
        let headers = headers.collect();
        let remote_addr = request.remote().map(|remote| remote.to_string());
        Outcome::Success(Self { headers, remote_addr, content_length })
    }
}

/// Receives a live turn.
#[post("/transcription", data = "<data>")]
pub async fn transcription(head: WebhookHead, data: Data<'_>, app: &State<AppState>) -> Result<Answer, ApiError> {
    receive(WebhookRoute::Transcription, MAX_TURN_BYTES, head, data, app).await
}

/// Receives a post-call webhook.
#[post("/post-call", data = "<data>")]
pub async fn post_call(head: WebhookHead, data: Data<'_>, app: &State<AppState>) -> Result<Answer, ApiError> {
    receive(WebhookRoute::PostCall, app.max_post_call_bytes, head, data, app).await
}

async fn receive(
    route: WebhookRoute,
    limit: u64,
    head: WebhookHead,
    data: Data<'_>,
    app: &AppState,
) -> Result<Answer, ApiError> {
    if app.hub.is_draining() {
        return Err(ApiError::unavailable("the server is shutting down"));
    }
    let WebhookHead { headers, remote_addr, content_length } = head;
    let mut webhook = WebhookRequest { route, remote_addr, headers, body: Vec::new() };
    let claim = match app.ingest.admit(&webhook) {
        Ok(claim) => claim,
        Err(refusal) => {
            body::discard(data).await;
            return Err(signature_error(refusal));
        }
    };
    let (body, memory) = body::read(data, limit, content_length, &app.body_budget).await?;
    webhook.body = body;
    app.ingest.accept(webhook, claim, memory).await.map_err(|refused| match refused {
        IngestError::Signature(refusal) => signature_error(refusal),
        IngestError::Store(error) => error.into(),
    })
}

/// Makes a 401 that says whether the signature is missing, wrong or too old. It says nothing more, because its reader
/// may be an attacker.
fn signature_error(refusal: SignatureRefusal) -> ApiError {
    ApiError::new(Status::Unauthorized, ErrorCode::SignatureInvalid, refusal.reason())
        .details("ElevenLabs-Signature: t=<unix secs>,v0=<hex of HMAC-SHA256 over \"<t>.<raw body>\">")
}

impl<'r> Responder<'r, 'static> for Answer {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let body: Arc<[u8]> = self.body.into();
        let mut response = Response::build();
        response.status(Status::new(self.status)).header(ContentType::JSON);
        response.sized_body(body.len(), Cursor::new(body)).ok()
    }
}
