//! Reads the body of a webhook: up to a limit, at a minimum speed, and within the memory for bodies.

use std::time::Duration;

use callscope_common::ErrorCode;
use rocket::data::{Data, ToByteUnit};
use rocket::http::Status;
use tokio::io::{AsyncReadExt, copy, sink};
use tokio::select;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::http::error::ApiError;
use crate::transport::bodies::{ArrivingBody, BodyBudget, NoBudget, ReadDeadline};

/// Minimum speed of a body, in bytes a second.
const MIN_SPEED: u64 = 64 << 10;
/// Time by which a body may lag behind the minimum speed at first.
const INITIAL_LAG: Duration = Duration::from_secs(10);
/// Time by which a body may lag after it was faster than the minimum speed. A connection that was interrupted for some
/// seconds needs a few more to recover.
const MAX_LAG: Duration = Duration::from_secs(30);
/// Time after which a body is registered, so that it can be evicted. Most bodies are complete before.
const REGISTER_AFTER: Duration = Duration::from_millis(250);
/// Length of the first chunk in bytes. Most turns fit in it, so it takes no memory from the budget.
const FIRST_CHUNK: usize = 4 << 10;
/// Maximum length of a further chunk in bytes.
const MAX_CHUNK: usize = 1 << 20;
/// Bytes that are read and discarded of a body that is too long, and the time for it. Most senders read the response
/// only after they have sent the whole body.
const MAX_DISCARDED_BYTES: u64 = 64 << 20;
const MAX_DISCARD_TIME: Duration = Duration::from_secs(15);
/// The same for a body that is refused for its headers.
const REFUSED_DISCARD_BYTES: u64 = 1 << 20;
const REFUSED_DISCARD_TIME: Duration = Duration::from_millis(100);

/// A body, and the memory that it takes from the budget; `None` if it fits in the first chunk.
pub type BodyAndMemory = (Vec<u8>, Option<OwnedSemaphorePermit>);

/// Reads a body of at most `limit` bytes. `length` is its announced length. Memory is acquired as bytes arrive, so that
/// an announced length alone takes none.
///
/// # Errors
/// Returns 400 if the body broke off, 408 if it is too slow, 413 if it is longer than `limit`, and 503 if there is no
/// memory for it or it was evicted.
pub async fn read(
    data: Data<'_>,
    limit: u64,
    length: Option<u64>,
    budget: &BodyBudget,
) -> Result<BodyAndMemory, ApiError> {
    let began = Instant::now();
    let mut stream = data.open((limit + MAX_DISCARDED_BYTES).bytes());
    let mut body = Vec::new();
    let mut arriving: Option<ArrivingBody> = None;
    let mut memory: Option<OwnedSemaphorePermit> = None;
    let mut deadline = ReadDeadline::new(began, INITIAL_LAG, MAX_LAG, MIN_SPEED);
    while length.is_none_or(|length| length <= limit) && body.len() as u64 <= limit {
        if body.len() == body.capacity() {
            let chunk = next_chunk(body.capacity(), length);
            // The first chunk is not charged to the budget.
            if body.capacity() > 0 {
                let arriving = arriving.get_or_insert_with(|| budget.register(began, body.len() as u64));
                let earlier_waits = arriving.total_wait();
                let permit = arriving.acquire(chunk).await.map_err(no_memory)?;
                deadline.extend_by(arriving.total_wait() - earlier_waits);
                match &mut memory {
                    Some(memory) => memory.merge(permit),
                    None => memory = Some(permit),
                }
            }
            body.reserve_exact(chunk);
        }
        let wake_at = if arriving.is_none() { deadline.at().min(began + REGISTER_AFTER) } else { deadline.at() };
        let count = select! {
            // The stream is polled first: bytes that have already arrived need no timer.
            biased;
            read = stream.read_buf(&mut body) => read.map_err(|_| ApiError::bad_request("the body broke off"))?,
            () = sleep_until(wake_at) => match arriving {
                Some(_) => return Err(body_timeout()),
                None => {
                    arriving = Some(budget.register(began, body.len() as u64));
                    continue;
                }
            },
            () = evicted(arriving.as_ref()) => return Err(no_memory(NoBudget)),
        };
        if count == 0 {
            return Ok((body, memory));
        }
        deadline.extend_for_bytes(count as u64, Instant::now());
        if let Some(arriving) = &arriving {
            arriving.set_received(body.len() as u64);
        }
    }
    // The body is too long. Its memory is free again before the rest is discarded.
    drop((body, memory));
    let arriving = arriving.unwrap_or_else(|| budget.register(began, 0));
    arriving.memory_was_released();
    let mut nowhere = sink();
    select! {
        _ = timeout_at(Instant::now() + MAX_DISCARD_TIME, copy(&mut stream, &mut nowhere)) => {}
        () = arriving.evicted() => {}
    }
    Err(ApiError::of_status(Status::PayloadTooLarge).details(format!("at most {limit} bytes are taken here")))
}

/// Returns how many bytes to add to the buffer. The buffer doubles, within bounds, up to the announced length.
fn next_chunk(capacity: usize, length: Option<u64>) -> usize {
    let chunk = capacity.clamp(FIRST_CHUNK, MAX_CHUNK);
    // One byte more than the announced length, so that the read that finds the end needs no further chunk.
    let left = length.map(|length| usize::try_from(length + 1).unwrap_or(usize::MAX).saturating_sub(capacity));
    left.filter(|left| *left > 0).map_or(chunk, |left| chunk.min(left))
}

/// Waits until the body is evicted. A body that is not registered never is.
async fn evicted(arriving: Option<&ArrivingBody>) {
    match arriving {
        Some(arriving) => arriving.evicted().await,
        None => std::future::pending().await,
    }
}

fn body_timeout() -> ApiError {
    ApiError::new(Status::RequestTimeout, ErrorCode::BodyTimeout, "the body did not arrive in time").details(format!(
        "{MIN_SPEED} bytes a second are needed; a body may lag {} seconds behind, or {} after a fast stretch",
        INITIAL_LAG.as_secs(),
        MAX_LAG.as_secs()
    ))
}

fn no_memory(_: NoBudget) -> ApiError {
    ApiError::unavailable("too many bodies are arriving at once, and slow ones give way")
}

/// Reads and discards the beginning of a body that is refused for its headers. If the connection were closed at once, a
/// sender that writes its whole request first would not read the response.
pub async fn discard(data: Data<'_>) {
    let mut stream = data.open(REFUSED_DISCARD_BYTES.bytes());
    // A body that is longer or slower is cut off, and one that breaks off changes nothing.
    let _ = timeout(REFUSED_DISCARD_TIME, copy(&mut stream, &mut sink())).await;
}
