//! Replays a stored delivery.

use callscope_common::api::WebhookRoute;
use callscope_common::{OrUnknown, Timestamp};
use uuid::Uuid;

use super::{Ingest, WebhookRequest, dedup_key, read_delivery};
use crate::clock;
use crate::log::{Answer, DedupKey, Operation, Outcome};
use crate::store::StoreError;

/// Headers that are added to a replay: the id of the replayed delivery, and the name of the admin.
const REPLAY_OF: &str = "Callscope-Replay-Of";
const REPLAY_BY: &str = "Callscope-Replay-By";

/// A stored delivery, and how to replay it.
#[derive(Debug)]
pub struct Replay {
    /// The id of the delivery.
    pub replay_of: Uuid,
    /// The route that received it.
    pub route: OrUnknown<WebhookRoute>,
    /// When it was received.
    pub received_at: Timestamp,
    /// The headers as JSON: `[[name, value], …]`.
    pub headers: String,
    /// The body as it was received.
    pub body: Vec<u8>,
    /// The address of the admin who requests the replay.
    pub remote_addr: Option<String>,
    /// The name of the admin who requests the replay.
    pub by: String,
    /// Whether the replay takes effect even if the original did.
    pub as_new: bool,
}

impl Ingest {
    /// Replays a stored delivery. Its signature was verified when it was received and is not verified again. Returns
    /// the id of the new delivery, and its answer.
    ///
    /// # Errors
    /// Returns an error if the stored delivery is damaged, or if the storage cannot commit the new one.
    pub async fn replay(&self, replay: Replay) -> Result<(Uuid, Answer), StoreError> {
        let damaged = || StoreError::Damaged("delivery");
        let route = replay.route.known().ok_or_else(damaged)?;
        let mut headers: Vec<(String, String)> = serde_json::from_str(&replay.headers).map_err(|_| damaged())?;
        // The original may be a replay itself.
        headers.retain(|(name, _)| ![REPLAY_OF, REPLAY_BY].iter().any(|added| name.eq_ignore_ascii_case(added)));
        headers.push((REPLAY_OF.into(), replay.replay_of.to_string()));
        headers.push((REPLAY_BY.into(), replay.by));
        let webhook = WebhookRequest { route, remote_addr: replay.remote_addr, headers, body: replay.body };
        let signed_at = self.verifier.signed_at(&webhook.headers, &webhook.body);
        let now = clock::now();
        let (headers, body) = (webhook.headers.clone(), webhook.body.clone());
        let mut delivery = read_delivery(webhook, now, signed_at, &self.naming);
        delivery.dedup_key = if replay.as_new {
            delivery.idempotency_key = None;
            DedupKey::None
        } else {
            // The replay has the dedup key of the original. If that is unsigned, the key depends on when it was
            // received.
            let original = WebhookRequest { route, remote_addr: None, headers, body };
            dedup_key(&original, &delivery.change, replay.received_at, signed_at)
        };
        let delivery_id = delivery.delivery_id;
        match self.log_writer.submit(Operation::Deliver(Box::new(delivery))).await? {
            Outcome::Answered(answer) => Ok((delivery_id, answer)),
            _ => Err(StoreError::Internal("a delivery had an outcome without an answer")),
        }
    }
}
