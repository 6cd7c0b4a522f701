//! Reading a body: up to its limit, at a minimum speed, within the memory for bodies.

use std::time::Duration;

use rocket::data::{Data, ToByteUnit};
use rocket::http::Status;
use tokio::io::{AsyncReadExt, copy, sink};
use tokio::select;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::http::error::ApiError;
use crate::transport::bodies::{ArrivingBody, BodyBudget, NoBudget, ReadDeadline};

/// By how much time a body may be behind at first,
const GRACE: Duration = Duration::from_secs(10);
/// and by how much once it was quicker than it needs to be: a connection that breaks off for some seconds takes some more to go on.
const MOST_BEHIND: Duration = Duration::from_secs(30);
/// How many bytes a second a body needs to bring.
const MIN_SPEED: u64 = 64 << 10;
/// One that has taken longer than this may have to give way to others.
const QUICK: Duration = Duration::from_millis(250);
/// What is read of a body without asking for room: most turns are no longer.
const FIRST_CHUNK: usize = 4 << 10;
/// Most room taken at once, in bytes.
const MAX_CHUNK: usize = 1 << 20;
/// A body that is too long is read on for so many bytes, so that its sender hears the answer before the connection closes,
const MAX_DISCARDED: u64 = 64 << 20;
/// for so long.
const DISCARDING: Duration = Duration::from_secs(15);
/// What is read of a body whose sender is refused already, and for how long.
const MAX_POLITE: u64 = 1 << 20;
const POLITE: Duration = Duration::from_millis(100);

/// A body, and the room it takes.
pub type BodyAndMemory = (Vec<u8>, Option<OwnedSemaphorePermit>);

/// Reads a body, taking room as bytes arrive: an announced length costs nothing.
///
/// # Errors
/// 400 where it broke off, 408 where it is too slow, 413 where it is longer than `limit`, 503 where there is no room.
pub async fn read(
    data: Data<'_>,
    limit: u64,
    length: Option<u64>,
    budget: &BodyBudget,
) -> Result<BodyAndMemory, ApiError> {
    let began = Instant::now();
    let mut stream = data.open((limit + MAX_DISCARDED).bytes());
    let mut body = Vec::new();
    let mut arriving: Option<ArrivingBody> = None;
    let mut room: Option<OwnedSemaphorePermit> = None;
    let mut due = ReadDeadline::new(began, GRACE, MOST_BEHIND, MIN_SPEED);
    while length.is_none_or(|length| length <= limit) && body.len() as u64 <= limit {
        if body.len() == body.capacity() {
            let more = growth(body.capacity(), length);
            if body.capacity() > 0 {
                let arriving = arriving.get_or_insert_with(|| budget.arriving(began, body.len() as u64));
                let waited = arriving.waited();
                let taken = arriving.take(more).await.map_err(no_memory)?;
                due.waited(arriving.waited() - waited);
                match &mut room {
                    Some(room) => room.merge(taken),
                    None => room = Some(taken),
                }
            }
            body.reserve_exact(more);
        }
        let before = body.len();
        let wake = if arriving.is_none() { due.at().min(began + QUICK) } else { due.at() };
        let read = select! {
            // What is there already needs no timer, and a timer wakes the runtime.
            biased;
            read = stream.read_buf(&mut body) => read.map_err(|_| ApiError::bad_request("the body broke off"))?,
            () = sleep_until(wake) => match arriving {
                Some(_) => return Err(body_timeout()),
                None => {
                    arriving = Some(budget.arriving(began, body.len() as u64));
                    continue;
                }
            },
            () = evicted(arriving.as_ref()) => return Err(no_memory(NoBudget)),
        };
        if read == 0 {
            return Ok((body, room));
        }
        due.received((body.len() - before) as u64, Instant::now());
        if let Some(arriving) = &arriving {
            arriving.received(body.len() as u64);
        }
    }
    drop((body, room));
    let arriving = arriving.unwrap_or_else(|| budget.arriving(began, 0));
    arriving.release_memory();
    let mut nowhere = sink();
    select! {
        _ = timeout_at(Instant::now() + DISCARDING, copy(&mut stream, &mut nowhere)) => {}
        () = arriving.evicted() => {}
    }
    Err(ApiError::of_status(Status::PayloadTooLarge).details(format!("at most {limit} bytes are taken here")))
}

/// How many bytes more to make room for.
fn growth(capacity: usize, length: Option<u64>) -> usize {
    let doubled = capacity.clamp(FIRST_CHUNK, MAX_CHUNK);
    // A byte beyond the announced length shows that the body ends there.
    let left = length.map(|length| usize::try_from(length + 1).unwrap_or(usize::MAX).saturating_sub(capacity));
    left.filter(|left| *left > 0).map_or(doubled, |left| doubled.min(left))
}

async fn evicted(arriving: Option<&ArrivingBody>) {
    match arriving {
        Some(arriving) => arriving.evicted().await,
        None => std::future::pending().await,
    }
}

fn body_timeout() -> ApiError {
    ApiError::new(Status::RequestTimeout, "BODY_TIMEOUT", "the body did not arrive in time")
        .details(format!("{MIN_SPEED} bytes a second are needed, and a body may be {} seconds behind", GRACE.as_secs()))
}

fn no_memory(_: NoBudget) -> ApiError {
    ApiError::unavailable("too many bodies are arriving at once, and slow ones give way")
}

/// Reads on a little where the sender is refused already and may be about to send the rest: one that writes its whole request
/// before it looks for an answer would find the connection closed. Nothing of it is kept.
pub async fn discard(data: Data<'_>) {
    let mut stream = data.open(MAX_POLITE.bytes());
    let _ = timeout(POLITE, copy(&mut stream, &mut sink())).await;
}
