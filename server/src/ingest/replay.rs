//! A delivery that is kept, taken up once more.

use callscope_common::Timestamp;
use uuid::Uuid;

use super::{Ingest, WebhookRequest, dedup_key, read_delivery};
use crate::clock;
use crate::log::{Answer, DedupKey, Operation, Outcome, Route};
use crate::store::StoreError;

/// Kept beside a replay's own headers: what it replays, and who asked for it.
const REPLAY_OF: &str = "Callscope-Replay-Of";
const REPLAY_BY: &str = "Callscope-Replay-By";

/// A kept delivery, and how to take it up.
#[derive(Debug)]
pub struct Replay {
    /// Which it is.
    pub replay_of: Uuid,
    /// Which webhook it came to.
    pub route: String,
    /// When it came.
    pub received_at: Timestamp,
    /// JSON: `[[name, value], …]`.
    pub headers: String,
    /// As received.
    pub body: Vec<u8>,
    /// Who asks for the replay, by address and by name.
    pub remote_addr: Option<String>,
    /// See `remote_addr`.
    pub by: String,
    /// Whether it shall take effect again, even if it did already.
    pub as_new: bool,
}

impl Ingest {
    /// Takes a kept delivery up once more, without its signature being asked for: it was checked when it came. Says which delivery
    /// came of it, and its answer.
    ///
    /// # Errors
    /// The storage could not take it.
    pub async fn replay(&self, replay: Replay) -> Result<(Uuid, Answer), StoreError> {
        let damaged = || StoreError::Damaged("delivery");
        let route = Route::parse(&replay.route).ok_or_else(damaged)?;
        let mut headers: Vec<(String, String)> = serde_json::from_str(&replay.headers).map_err(|_| damaged())?;
        headers.retain(|(name, _)| ![REPLAY_OF, REPLAY_BY].iter().any(|own| name.eq_ignore_ascii_case(own)));
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
            // What made it the same as another when it came: its second of receipt counts, where no signature tells one.
            let original = WebhookRequest { route, remote_addr: None, headers, body };
            dedup_key(&original, &delivery.change, replay.received_at, signed_at)
        };
        let delivery_id = delivery.delivery_id;
        match self.log_writer.submit(Operation::Deliver(Box::new(delivery))).await? {
            Outcome::Answered(answer) => Ok((delivery_id, answer)),
            _ => Err(StoreError::Internal("a delivery came to an outcome that is no answer")),
        }
    }
}
