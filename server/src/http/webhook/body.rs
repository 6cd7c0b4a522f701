//! Reads the body of a webhook: up to a limit, at a minimum speed, and within the memory for bodies.

use std::time::Duration;

use rocket::data::{Data, ToByteUnit};
use rocket::http::Status;
use tokio::io::{AsyncReadExt, copy, sink};
use tokio::select;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::http::error::ApiError;
use crate::transport::bodies::{ArrivingBody, BodyBudget, NoBudget, ReadDeadline};

/// Time by which a body may be late at first.
const GRACE: Duration = Duration::from_secs(10);
/// Time by which a body may be late after it was faster than required. A connection that breaks off for some seconds
/// needs a few more to recover.
const MOST_BEHIND: Duration = Duration::from_secs(30);
/// Minimum speed of a body, in bytes a second.
const MIN_SPEED: u64 = 64 << 10;
/// Time after which a body is registered and can be evicted.
const QUICK: Duration = Duration::from_millis(250);
/// Bytes that are read without taking memory from the budget; most turns are no longer.
const FIRST_CHUNK: usize = 4 << 10;
/// Maximum memory that is taken at once, in bytes.
const MAX_CHUNK: usize = 1 << 20;
/// Bytes that are read and discarded of a body that is too long, so that its sender receives the response before the
/// connection is closed.
const MAX_DISCARDED: u64 = 64 << 20;
/// Time for which such a body is read.
const DISCARDING: Duration = Duration::from_secs(15);
/// Bytes that are read of a body whose sender is refused already, and the time for it.
const MAX_POLITE: u64 = 1 << 20;
const POLITE: Duration = Duration::from_millis(100);

/// A body, and the memory that it takes of the budget.
pub type BodyAndMemory = (Vec<u8>, Option<OwnedSemaphorePermit>);

/// Reads a body and takes memory as bytes arrive, so that an announced length costs nothing.
///
/// # Errors
/// Returns 400 if the body broke off, 408 if it is too slow, 413 if it is longer than `limit`, and 503 if there is no
/// memory for it.
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
            // Bytes that are there already need no timer, which would wake the runtime.
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

/// Returns how many more bytes to reserve.
fn growth(capacity: usize, length: Option<u64>) -> usize {
    let doubled = capacity.clamp(FIRST_CHUNK, MAX_CHUNK);
    // One byte beyond the announced length shows that the body ends there.
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

/// Reads and discards a little of the body of a sender that is refused already. A sender that writes its whole request
/// before it reads the response would otherwise find the connection closed.
pub async fn discard(data: Data<'_>) {
    let mut stream = data.open(MAX_POLITE.bytes());
    let _ = timeout(POLITE, copy(&mut stream, &mut sink())).await;
}
