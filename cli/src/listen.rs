//! Deliveries, followed live and forwarded to a server of the user's own.
//!
//! [`deliveries`](crate::stream::deliveries) keeps the WebSocket; what it brings is fetched whole, a few ahead, and
//! forwarded one after the other in the order of the server's commits, so also in order per call. The place moves
//! behind a delivery once the target answered it: after any break, of whichever side, it is forwarded at least
//! once, and marked where the target may have seen it.

mod fetch;
mod keys;
mod place;
mod refused;
mod report;
mod target;
mod target_client;

use std::time::Duration;

use callscope_common::api::{Attempt, DeliveryView};
use futures_util::{StreamExt as _, stream as streams};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::api::Client;
use crate::command::deliveries::Verdict;
use crate::command::listen::Listen;
use crate::exit::{Exit, Failure, Result};
use crate::net::Backoff;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::stream::Endpoint;
use crate::stream::deliveries::{Begin, Update};
use fetch::{Fetched, Whole, fetch, fetch_ahead};
use keys::Keys;
use place::PlaceFile;
use report::{Report, Sent};
use target_client::{TargetClient, Tried};

pub(crate) use target::Target;

/// Updates that wait to be fetched.
const QUEUE: usize = 64;
/// Deliveries fetched ahead of the one that is forwarded.
const AHEAD: usize = 8;
/// The place behind deliveries that are not forwarded is written at most so often.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// The attempt to fetch a delivery that is told of: some ten seconds after the first.
const TOLD_AT: u32 = 6;

/// Follows and forwards until it is ended from outside.
pub(crate) async fn run(settings: &Settings, args: Listen) -> Result {
    if args.verdicts == [Verdict::Unverified] && args.forward_to.is_some() {
        return Err(Failure::usage("nothing is kept of attempts that did not verify, so there is nothing to forward")
            .hint("they are shown without --forward-to, and listed by: callscope deliveries ls --verdict unverified"));
    }
    let secret = args.sign_with_file.as_deref().map(Secret::read).transpose()?;
    let place = args.cursor_file.as_deref().map(PlaceFile::open).transpose()?;
    let begin = match place.as_ref().and_then(PlaceFile::cursor) {
        Some(cursor) => Begin::After(cursor),
        None if args.history => Begin::Start,
        None => Begin::Now,
    };
    let courier = match &args.forward_to {
        Some(target) => Some(TargetClient::new(target.clone(), secret, Duration::from_secs(args.timeout))?),
        None => None,
    };
    let client = Client::new(settings)?;
    let (updates, mut queue) = mpsc::channel(QUEUE);
    let following = tokio::spawn(crate::stream::deliveries::follow(Endpoint::new(settings), begin, updates));
    // Refused ones are of no type and of no call.
    let shows_refused = args.kinds.is_empty()
        && args.calls.is_empty()
        && (args.verdicts.is_empty() || args.verdicts.contains(&Verdict::Unverified));
    let (attempts, mut refused) = mpsc::channel(QUEUE);
    let watching = shows_refused.then(|| tokio::spawn(refused::watch(client.clone(), attempts)));
    let keys = Keys::of_terminal();
    let choice = Choice::new(&args);
    let mut forwarder = Forwarder {
        settings,
        client: client.clone(),
        courier,
        attempts: args.attempts,
        report: Report::new(settings),
        place,
        noted: Instant::now(),
        said: what_is_done(settings, &args, keys.is_some()),
        is_away: false,
        keys,
        last: None,
    };
    let updates = streams::poll_fn(move |cx| queue.poll_recv(cx));
    let items = updates.map(|update| {
        let client = client.clone();
        let wanted = matches!(&update, Update::Delivery(message) if choice.takes(&message.delivery));
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

fn what_is_done(settings: &Settings, args: &Listen, has_keys: bool) -> String {
    let from = crate::net::shown(&settings.server);
    let keys = if has_keys { " (r: send the last one again, Ctrl-C: end)" } else { "" };
    match &args.forward_to {
        Some(target) => format!("forwarding deliveries from {from} to {target}{keys}"),
        None => format!("showing deliveries from {from}; --forward-to URL forwards them"),
    }
}

/// Which deliveries are forwarded.
struct Choice {
    kinds: Vec<String>,
    calls: Vec<String>,
    verdicts: Vec<&'static str>,
}

impl Choice {
    fn new(args: &Listen) -> Self {
        let verdicts = args.verdicts.iter().map(|verdict| verdict.as_str()).collect();
        Self { kinds: args.kinds.clone(), calls: args.calls.clone(), verdicts }
    }

    fn takes(&self, view: &DeliveryView) -> bool {
        let call_id = view.call_id.map(|id| id.to_string());
        let names = [view.call_sid.as_ref(), view.conversation_id.as_ref(), call_id.as_ref()];
        let is_of = |id: &String| names.contains(&Some(id));
        (self.kinds.is_empty() || view.kind.as_ref().is_some_and(|kind| self.kinds.contains(kind)))
            && (self.calls.is_empty() || self.calls.iter().any(is_of))
            && (self.verdicts.is_empty() || self.verdicts.contains(&view.verdict.as_str()))
    }
}

struct Forwarder<'s> {
    settings: &'s Settings,
    client: Client,
    courier: Option<TargetClient>,
    /// Most tries of one that the target refuses for now.
    attempts: u32,
    report: Report,
    place: Option<PlaceFile>,
    /// When the place was written last.
    noted: Instant,
    keys: Option<Keys>,
    /// What this is about, said once the stream stands; empty from then on.
    said: String,
    /// Whether the break that lasts was told.
    is_away: bool,
    /// What was forwarded last.
    last: Option<(DeliveryView, Whole)>,
}

/// An update, and of a delivery that is wanted, what was fetched of it ahead.
type Item = Result<(Update, Option<Option<Fetched>>)>;

impl Forwarder<'_> {
    async fn forward_all(
        &mut self,
        mut items: impl futures_util::Stream<Item = Item> + Unpin,
        refused: &mut mpsc::Receiver<Attempt>,
    ) -> Result {
        loop {
            let item = tokio::select! {
                item = items.next() => item,
                Some(attempt) = refused.recv() => {
                    self.report.refused(&attempt)?;
                    continue;
                }
                () = Keys::again(&mut self.keys) => {
                    self.forward_last().await?;
                    continue;
                }
            };
            let Some(item) = item else { return Err(Failure::new(Exit::StreamLost, "the stream of deliveries ended")) };
            match item? {
                (Update::Began { cursor, resumed }, _) => self.began(&cursor, resumed)?,
                (Update::Lost { reason, delay }, _) => {
                    let secs = delay.as_secs_f64();
                    let what = if self.said.is_empty() { "connection lost" } else { "no connection" };
                    let said = format!("{what} ({reason}); trying again in {secs:.1} s");
                    // Once for a break, however long it lasts.
                    match std::mem::replace(&mut self.is_away, true) {
                        false => self.settings.console.say(said),
                        true => self.settings.console.debug(said),
                    }
                }
                (Update::Failed(failure), _) => return Err(failure),
                (Update::Delivery(message), None) => self.note(&message.cursor)?,
                (Update::Delivery(message), Some(fetched)) => {
                    self.take(message.delivery, &message.cursor, fetched).await?;
                }
            }
        }
    }

    fn began(&mut self, cursor: &str, resumed: bool) -> Result<()> {
        self.is_away = false;
        if resumed {
            self.settings.console.say("connected again; no delivery was missed");
            return Ok(());
        }
        self.settings.console.say(std::mem::take(&mut self.said));
        self.settings.console.debug(format!("following deliveries after {cursor}"));
        // Before the first delivery there is a place too: one that comes while this program is away is not missed.
        match &mut self.place {
            Some(place) if place.cursor().is_none() => place.reached(cursor),
            _ => Ok(()),
        }
    }

    /// A delivery that is not forwarded.
    fn note(&mut self, cursor: &str) -> Result<()> {
        match &mut self.place {
            Some(place) if self.noted.elapsed() >= NOTE_EVERY => {
                self.noted = Instant::now();
                place.reached(cursor)
            }
            _ => Ok(()),
        }
    }

    async fn take(&mut self, view: DeliveryView, cursor: &str, fetched: Option<Fetched>) -> Result<()> {
        let fetched = match fetched {
            Some(fetched) => fetched,
            None => fetch(&self.client, view.delivery_id).await,
        };
        match self.whole(view.delivery_id, fetched).await? {
            Some(whole) => {
                let is_begun = self.place.as_ref().is_some_and(|place| place.sending() == Some(view.delivery_id));
                if self.courier.is_some()
                    && let Some(place) = &mut self.place
                {
                    place.sends(view.delivery_id)?;
                }
                self.forward(&view, &whole, is_begun).await?;
                self.last = Some((view, whole));
            }
            None => self
                .settings
                .console
                .warn(format!("{} is left out: it is not kept any more, or cannot be fetched", view.delivery_id)),
        }
        match &mut self.place {
            Some(place) => place.reached(cursor),
            None => Ok(()),
        }
    }

    /// The delivery as it was fetched ahead, or else fetched now, however long it takes; `None` where it is gone.
    async fn whole(&mut self, id: Uuid, mut fetched: Fetched) -> Result<Option<Whole>> {
        let mut backoff = Backoff::default();
        loop {
            match fetched {
                Ok(whole) => return Ok(whole),
                // Nothing is left out for what may pass; what is in its way for long is told once.
                Err(failure) if failure.is_passing => {
                    let said = format!("{id} cannot be fetched now, and is tried again: {}", failure.message);
                    match backoff.attempt() {
                        TOLD_AT => self.settings.console.warn(said),
                        _ => self.settings.console.debug(said),
                    }
                }
                // What cannot be read now cannot be read later either, and what comes after it is not to wait for it.
                Err(failure) if failure.exit == Exit::Error => {
                    self.settings.console.warn(format!("{id} cannot be fetched: {}", failure.message));
                    return Ok(None);
                }
                Err(failure) => return Err(failure),
            }
            sleep(backoff.next(None)).await;
            fetched = fetch(&self.client, id).await;
        }
    }

    async fn forward_last(&mut self) -> Result<()> {
        match self.last.take() {
            Some((view, whole)) => {
                self.forward(&view, &whole, true).await?;
                self.last = Some((view, whole));
            }
            None => self.settings.console.say("nothing was forwarded yet"),
        }
        Ok(())
    }

    /// Sends a delivery until the target answered it. `seen`: the target may have seen it before.
    async fn forward(&mut self, view: &DeliveryView, whole: &Whole, mut seen: bool) -> Result<()> {
        let Some(courier) = &self.courier else { return self.report.shown(view) };
        let Some(url) = courier.url(view) else {
            let (id, route) = (view.delivery_id, &view.route);
            self.settings
                .console
                .warn(format!("{id} came by the route {route:?}, which {{route}} cannot stand for; it is left out"));
            return Ok(());
        };
        let mut backoff = Backoff::default();
        let (mut refusals, mut said) = (0, false);
        for attempt in 1_u32.. {
            let began = Instant::now();
            let tried = courier.send(url.clone(), view, whole, attempt, seen).await;
            let (status, why, wait) = match tried {
                Tried::Answered { status, retry_after, .. } if target_client::is_for_now(status) => {
                    refusals += 1;
                    (Some(status), format!("it answers {status}"), retry_after)
                }
                Tried::Answered { status, text, .. } => {
                    let sent = Sent { view, status: Some(status), text: &text, attempt, seen, took: began.elapsed() };
                    return self.report.forwarded(&sent);
                }
                Tried::Failed { why, arrived } => {
                    seen |= arrived;
                    (None, why, None)
                }
            };
            if refusals >= self.attempts {
                let text = format!("given up after {refusals} such answers");
                return self.report.forwarded(&Sent {
                    view,
                    status,
                    text: &text,
                    attempt,
                    seen,
                    took: began.elapsed(),
                });
            }
            seen |= status.is_some();
            let delay = backoff.next(wait);
            let message = format!("not forwarded ({why}); trying again in {:.1} s", delay.as_secs_f64());
            // Once is enough for a target that is away.
            if std::mem::replace(&mut said, true) {
                self.settings.console.debug(message);
            } else {
                self.settings.console.say(message);
            }
            tokio::select! {
                () = sleep(delay) => {}
                () = Keys::again(&mut self.keys) => {}
            }
        }
        Ok(())
    }
}
