//! A delivery, whole.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use uuid::Uuid;

use crate::api::{Client, MAX_ANSWER_BYTES, too_long};
use crate::exit::{Exit, Failure, Result};

/// What is forwarded.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// A delivery, or `None` where it is gone.
pub(crate) type Fetched = Result<Option<Whole>>;

/// Longest answer that is fetched ahead, in bytes: several of them wait at one time.
const LONGEST_AHEAD: usize = 4 << 20;

/// Fetches one ahead of its turn; `None` where it is so long that it is fetched only when it is its turn.
pub(crate) async fn fetch_ahead(client: &Client, id: Uuid) -> Option<Fetched> {
    fetch_within(client, id, LONGEST_AHEAD).await.transpose()
}

pub(crate) async fn fetch(client: &Client, id: Uuid) -> Fetched {
    let fetched = fetch_within(client, id, MAX_ANSWER_BYTES).await?;
    fetched.ok_or_else(|| too_long("the delivery", MAX_ANSWER_BYTES))
}

/// Fetches one of at most `max_bytes` bytes as it is sent: the outer `None` is a longer one.
async fn fetch_within(client: &Client, id: Uuid, max_bytes: usize) -> Result<Option<Option<Whole>>> {
    let delivery = match client.delivery_within(id, max_bytes).await {
        Ok(Some(delivery)) => delivery,
        Ok(None) => return Ok(None),
        Err(failure) if failure.exit == Exit::NotFound => return Ok(Some(None)),
        Err(failure) => return Err(failure),
    };
    let headers =
        delivery.headers().map_err(|error| Failure::error(format!("the delivery's headers are no list: {error}")))?;
    let Some(encoded) = delivery.body_base64 else { return Ok(Some(None)) };
    let body = BASE64_STANDARD.decode(encoded);
    let body = body.map_err(|error| Failure::error(format!("the server's answer holds no Base64: {error}")))?;
    Ok(Some(Some(Whole { headers, body })))
}
