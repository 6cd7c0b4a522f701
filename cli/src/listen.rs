//! Deliveries, followed live and forwarded to a server of the user's own.
//!
//! [`deliveries`](crate::stream::deliveries) keeps the WebSocket; what it brings is fetched whole, a few ahead, and
//! forwarded one after the other in the order of the server's commits, so also in order per call. The place moves
//! behind a delivery once the target answered it: after any break, of whichever side, it is forwarded at least
//! once, and marked where the target may have seen it.

mod fetch;
mod forwarder;
mod keys;
mod place;
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

pub(crate) use place::PlaceFile;
pub(crate) use target::Target;
pub(crate) use target_client::TargetClient;

/// Updates that wait to be fetched.
const QUEUE: usize = 64;
/// Deliveries fetched ahead of the one that is forwarded.
const AHEAD: usize = 8;

/// What is followed, and where it goes.
pub(crate) struct Options {
    pub(crate) filter: Filter,
    /// Where deliveries are forwarded to; without it they are only shown.
    pub(crate) target: Option<TargetClient>,
    /// How often a delivery that the target refuses for now is sent at most.
    pub(crate) attempts: u32,
    pub(crate) place: Option<PlaceFile>,
    /// Whether to begin with the oldest delivery where there is no place yet.
    pub(crate) history: bool,
}

/// Which deliveries are forwarded; what is empty admits all.
pub(crate) struct Filter {
    pub(crate) kinds: Vec<String>,
    pub(crate) calls: Vec<String>,
    pub(crate) verdicts: Vec<Verdict>,
}

/// Follows and forwards until it is ended from outside.
pub(crate) async fn run(settings: &Settings, options: Options) -> Result {
    let begin = match options.place.as_ref().and_then(PlaceFile::cursor) {
        Some(cursor) => Begin::After(cursor),
        None if options.history => Begin::Start,
        None => Begin::Now,
    };
    let client = Client::new(settings)?;
    let (updates, mut queue) = mpsc::channel(QUEUE);
    let following = tokio::spawn(follow(Endpoint::new(settings), begin, updates));
    let (attempts, mut refused) = mpsc::channel(QUEUE);
    let shows_refused = options.filter.takes_refused();
    let watching = shows_refused.then(|| tokio::spawn(refused::watch(client.clone(), attempts)));
    let filter = options.filter;
    let mut forwarder = Forwarder::new(settings, client.clone(), options.target, options.attempts, options.place);
    let updates = streams::poll_fn(move |cx| queue.poll_recv(cx));
    let items = updates.map(|update| {
        let client = client.clone();
        let wanted = matches!(&update, Update::Delivery(message) if filter.takes(&message.delivery));
        // On a task of its own, which goes on while another delivery is forwarded.
        let fetched = tokio::spawn(async move {
            match &update {
                Update::Delivery(message) if wanted => {
                    let fetched = fetch_ahead(&client, message.delivery.delivery_id).await;
                    (update, Some(fetched))
                }
                _ => (update, None),
            }
        });
        async move { fetched.await.map_err(|error| Failure::error(error.to_string())) }
    });
    let ended = forwarder.forward_all(items.buffered(AHEAD), &mut refused).await;
    following.abort();
    if let Some(watching) = watching {
        watching.abort();
    }
    ended
}

impl Filter {
    fn takes(&self, view: &DeliveryView) -> bool {
        let call_id = view.call_id.map(|id| id.to_string());
        let names = [view.call_sid.as_ref(), view.conversation_id.as_ref(), call_id.as_ref()];
        let is_of = |id: &String| names.contains(&Some(id));
        (self.kinds.is_empty() || view.kind.as_ref().is_some_and(|kind| self.kinds.contains(kind)))
            && (self.calls.is_empty() || self.calls.iter().any(is_of))
            && (self.verdicts.is_empty()
                || view.verdict.known().is_some_and(|verdict| self.verdicts.contains(&verdict)))
    }

    /// Whether refused webhooks are shown, which are of no type and of no call.
    fn takes_refused(&self) -> bool {
        self.kinds.is_empty()
            && self.calls.is_empty()
            && (self.verdicts.is_empty() || self.verdicts.contains(&Verdict::Unverified))
    }
}
