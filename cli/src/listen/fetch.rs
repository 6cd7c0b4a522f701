//! Fetches the headers and the body of deliveries.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use uuid::Uuid;

use crate::api::{Client, MAX_ANSWER_BYTES, too_long};
use crate::exit::{Exit, Failure, Result};

/// The headers and the body of a delivery, as they are forwarded.
#[derive(Debug)]
pub(crate) struct RawDelivery {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// A delivery, or `None` if the server does not keep it any more.
pub(crate) type Fetched = Result<Option<RawDelivery>>;

/// Longest answer that is fetched ahead, in bytes, because several of them are in memory at the same time.
const MAX_AHEAD_BYTES: usize = 4 << 20;

/// Fetches a delivery ahead of its turn. Returns `None` if it is longer than [`MAX_AHEAD_BYTES`]; it is then fetched
/// when its turn comes.
pub(crate) async fn fetch_ahead(client: &Client, id: Uuid) -> Option<Fetched> {
    fetch_within(client, id, MAX_AHEAD_BYTES).await.transpose()
}

pub(crate) async fn fetch(client: &Client, id: Uuid) -> Fetched {
    let fetched = fetch_within(client, id, MAX_ANSWER_BYTES).await?;
    fetched.ok_or_else(|| too_long("the delivery", MAX_ANSWER_BYTES))
}

/// Fetches a delivery. The outer `None` means that the answer is longer than `max_bytes`, and the inner `None` that
/// the delivery is not kept any more.
async fn fetch_within(client: &Client, id: Uuid, max_bytes: usize) -> Result<Option<Option<RawDelivery>>> {
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
    Ok(Some(Some(RawDelivery { headers, body })))
}
