//! A delivery, whole.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use uuid::Uuid;

use crate::client::Client;
use crate::exit::{Exit, Failure, Result};

/// What is forwarded.
#[derive(Debug)]
pub struct Whole {
    /// As received.
    pub headers: Vec<(String, String)>,
    /// As received.
    pub body: Vec<u8>,
}

/// A delivery, or `None` where it is gone.
pub type Fetched = Result<Option<Whole>>;

/// Fetches one.
pub async fn fetch(client: &Client, id: Uuid) -> Fetched {
    #[derive(Deserialize)]
    struct Shown {
        headers: Vec<(String, String)>,
        body_base64: Option<String>,
    }
    let path = ["api", "v1", "admin", "deliveries", &id.to_string()];
    let shown: Shown = match client.get(&path, &[]).await {
        Ok(shown) => shown,
        Err(failure) if failure.exit == Exit::NotFound => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let Some(encoded) = shown.body_base64 else { return Ok(None) };
    let body = BASE64_STANDARD.decode(encoded);
    let body = body.map_err(|error| Failure::error(format!("the server's answer holds no Base64: {error}")))?;
    Ok(Some(Whole { headers: shown.headers, body }))
}
