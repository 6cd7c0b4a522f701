//! `POST /webhooks/elevenlabs/…`

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use rocket::data::{Data, ToByteUnit};
use rocket::http::{ContentType, Status};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::response::{self, Responder, Response};
use rocket::tokio::io::AsyncReadExt;
use rocket::tokio::sync::{OwnedSemaphorePermit, Semaphore};
use rocket::tokio::time::{Instant, timeout, timeout_at};
use rocket::{State, post};

use super::App;
use crate::error::ApiError;
use crate::ingest::{Incoming, Refused};
use crate::store::ledger::{Answer, Route};

/// Longest body of a turn, in bytes.
const MAX_TURN: u64 = 1 << 20;
/// Longest body of a post-call webhook, in bytes.
const MAX_POST_CALL: u64 = 32 << 20;
/// For a body to arrive whole.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// For room in the budget.
const BUDGET_DEADLINE: Duration = Duration::from_secs(5);
/// Most bytes of bodies being read or written at one time; further senders wait, then hear 503.
const BUDGET: usize = 512 << 20;
/// Room taken for a body at first, and at most at once, in bytes.
const FIRST_CHUNK: usize = 4 << 10;
const MAX_CHUNK: usize = 1 << 20;
/// A refused body is read on for so many bytes, so that its sender hears the answer before the connection closes.
const MAX_DISCARDED: u64 = 64 << 20;

/// Bounds the memory that bodies take.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET >> 10)))
    }
}

impl Budget {
    async fn take(&self, bytes: u64) -> Result<OwnedSemaphorePermit, ApiError> {
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX) + 1;
        match timeout(BUDGET_DEADLINE, Arc::clone(&self.0).acquire_many_owned(kib)).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(ApiError::unavailable("too many large bodies at once")),
        }
    }
}

/// What a webhook needs of the request's head.
pub struct Head {
    headers: Vec<(String, String)>,
    remote_addr: Option<String>,
    length: Option<u64>,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Head {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        let headers: Vec<(String, String)> =
            request.headers().iter().map(|header| (header.name().to_string(), header.value().to_owned())).collect();
        Outcome::Success(Self {
            headers,
            remote_addr: request.remote().map(|remote| remote.to_string()),
            length: request.headers().get_one("Content-Length").and_then(|length| length.parse().ok()),
        })
    }
}

/// One live turn.
#[post("/transcription", data = "<data>")]
pub async fn transcription(head: Head, data: Data<'_>, app: &State<App>) -> Result<Answer, ApiError> {
    take(Route::Transcription, MAX_TURN, head, data, app).await
}

/// What the provider says after a call.
#[post("/post-call", data = "<data>")]
pub async fn post_call(head: Head, data: Data<'_>, app: &State<App>) -> Result<Answer, ApiError> {
    take(Route::PostCall, MAX_POST_CALL, head, data, app).await
}

async fn take(route: Route, limit: u64, head: Head, data: Data<'_>, app: &App) -> Result<Answer, ApiError> {
    if app.hub.is_draining() {
        return Err(ApiError::unavailable("the server is shutting down"));
    }
    let (body, room) = read(data, limit, head.length, &app.budget).await?;
    let incoming = Incoming { route, remote_addr: head.remote_addr, headers: head.headers, body };
    app.ingest.accept(incoming, room).await.map_err(|refused| match refused {
        Refused::Unverified(unverified) => {
            ApiError::new(Status::Unauthorized, "SIGNATURE_INVALID", unverified.reason())
                .details("ElevenLabs-Signature: t=<unix secs>,v0=<hex of HMAC-SHA256 over \"<t>.<raw body>\">")
        }
        Refused::Store(error) => error.into(),
    })
}

/// Reads a body up to its limit and deadline, taking room as bytes arrive: an announced length costs nothing.
async fn read(
    data: Data<'_>,
    limit: u64,
    length: Option<u64>,
    budget: &Budget,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), ApiError> {
    let deadline = Instant::now() + BODY_DEADLINE;
    let late = || ApiError::new(Status::RequestTimeout, "BODY_TIMEOUT", "the body did not arrive in time");
    let broken = || ApiError::bad_request("the body broke off");
    let mut stream = data.open((limit + MAX_DISCARDED).bytes());
    let mut body = Vec::new();
    let mut room: Option<OwnedSemaphorePermit> = None;
    let mut is_whole = false;
    while length.is_none_or(|length| length <= limit) && body.len() as u64 <= limit {
        if body.len() == body.capacity() {
            let more = match body.capacity() {
                // A byte beyond the announced length shows that the body ends there.
                0 => length
                    .map_or(FIRST_CHUNK, |length| FIRST_CHUNK.min(usize::try_from(length + 1).unwrap_or(FIRST_CHUNK))),
                so_far => so_far.clamp(FIRST_CHUNK, MAX_CHUNK),
            };
            let taken = budget.take(more as u64).await?;
            match &mut room {
                Some(room) => room.merge(taken),
                None => room = Some(taken),
            }
            body.reserve_exact(more);
        }
        let read = timeout_at(deadline, stream.read_buf(&mut body)).await.map_err(|_| late())?;
        if read.map_err(|_| broken())? == 0 {
            is_whole = true;
            break;
        }
    }
    if is_whole && body.len() as u64 <= limit {
        return Ok((body, room));
    }
    drop((body, room));
    let _ = timeout_at(deadline, rocket::tokio::io::copy(&mut stream, &mut rocket::tokio::io::sink())).await;
    Err(ApiError::of_status(Status::PayloadTooLarge).details(format!("at most {limit} bytes are taken here")))
}

impl<'r> Responder<'r, 'static> for Answer {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let body = self.body.to_string();
        let mut response = Response::build();
        response.status(Status::new(self.status)).header(ContentType::JSON);
        response.sized_body(body.len(), Cursor::new(body)).ok()
    }
}
