//! Follows deliveries live and forwards them to a server of the user.
//!
//! [`deliveries`](crate::stream::deliveries) keeps the WebSocket open. The headers and the body of each delivery are
//! fetched ahead, and deliveries are forwarded one after the other in the server's commit order. The cursor passes a
//! delivery once the target has answered. After an interruption on either side each delivery is therefore forwarded
//! at least once, and one that the target may have received before is marked.

mod cursor_file;
mod fetch;
mod forwarder;
mod keys;
mod refused;
mod report;
mod target;
mod target_client;

use callscope_common::api::{DeliveryView, Verdict};
use futures_util::{StreamExt as _, stream as streams};
use tokio::sync::mpsc;

use crate::api::Client;
use crate::exit::{Failure, Result};
use crate::settings::Settings;
use crate::stream::Endpoint;
use crate::stream::deliveries::{Begin, Update, follow};
use fetch::fetch_ahead;
use forwarder::Forwarder;

pub(crate) use cursor_file::CursorFile;
pub(crate) use target::Target;
pub(crate) use target_client::TargetClient;

/// Length of the queues of updates and of refused webhooks.
const QUEUE_LEN: usize = 64;
/// How many deliveries are fetched ahead of the one that is being forwarded.
const MAX_FETCHED_AHEAD: usize = 8;

pub(crate) struct Options {
    pub(crate) filter: Filter,
    /// Where deliveries are forwarded to. If `None`, they are only printed.
    pub(crate) target: Option<TargetClient>,
    /// How many retryable answers of the target to one delivery end its retries.
    pub(crate) attempts: u32,
    pub(crate) cursor_file: Option<CursorFile>,
    /// Whether to begin with the oldest delivery if there is no cursor.
    pub(crate) history: bool,
}

/// Which deliveries are forwarded. An empty list accepts all.
pub(crate) struct Filter {
    pub(crate) kinds: Vec<String>,
    pub(crate) calls: Vec<String>,
    pub(crate) verdicts: Vec<Verdict>,
}

/// Follows and forwards deliveries until an error ends it.
pub(crate) async fn run(settings: &Settings, options: Options) -> Result {
    let begin = match options.cursor_file.as_ref().and_then(CursorFile::cursor) {
        Some(cursor) => Begin::After(cursor),
        None if options.history => Begin::Start,
        None => Begin::Now,
    };
    let client = Client::new(settings)?;
    let (updates, mut queue) = mpsc::channel(QUEUE_LEN);
    let following = tokio::spawn(follow(Endpoint::new(settings), begin, updates));
    let (attempts, mut refused) = mpsc::channel(QUEUE_LEN);
    let shows_refused = options.filter.accepts_refused();
    let watching = shows_refused.then(|| tokio::spawn(refused::watch(client.clone(), attempts)));
    let filter = options.filter;
    let mut forwarder = Forwarder::new(settings, client.clone(), options.target, options.attempts, options.cursor_file);
    let updates = streams::poll_fn(move |cx| queue.poll_recv(cx));
    let items = updates.map(|update| {
        let client = client.clone();
        let is_wanted = matches!(&update, Update::Delivery(message) if filter.accepts(&message.delivery));
        // A task of its own fetches while another delivery is forwarded.
        let fetched = tokio::spawn(async move {
            match &update {
                Update::Delivery(message) if is_wanted => {
                    let fetched = fetch_ahead(&client, message.delivery.delivery_id).await;
                    (update, Some(fetched))
                }
                _ => (update, None),
            }
        });
        async move { fetched.await.map_err(|error| Failure::error(error.to_string())) }
    });
    let ended = forwarder.forward_all(items.buffered(MAX_FETCHED_AHEAD), &mut refused).await;
    following.abort();
    if let Some(watching) = watching {
        watching.abort();
    }
    ended
}

impl Filter {
    fn accepts(&self, view: &DeliveryView) -> bool {
        let call_id = view.call_id.map(|id| id.to_string());
        let names = [view.call_sid.as_ref(), view.conversation_id.as_ref(), call_id.as_ref()];
        let is_of = |id: &String| names.contains(&Some(id));
        (self.kinds.is_empty() || view.kind.as_ref().is_some_and(|kind| self.kinds.contains(kind)))
            && (self.calls.is_empty() || self.calls.iter().any(is_of))
            && (self.verdicts.is_empty()
                || view.verdict.known().is_some_and(|verdict| self.verdicts.contains(&verdict)))
    }

    /// Returns whether refused webhooks are printed. They have no type and no call.
    fn accepts_refused(&self) -> bool {
        self.kinds.is_empty()
            && self.calls.is_empty()
            && (self.verdicts.is_empty() || self.verdicts.contains(&Verdict::Unverified))
    }
}
