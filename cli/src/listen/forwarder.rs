//! Takes deliveries in the order of the server's commits, forwards each until the target answers, and keeps the place.

use std::time::Duration;

use callscope_common::api::{Attempt, DeliveryView};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::fetch::{Fetched, Whole, fetch};
use super::keys::Keys;
use super::place::PlaceFile;
use super::report::{Report, Sent};
use super::target_client::TargetClient;
use crate::api::Client;
use crate::exit::{Exit, Failure, Result};
use crate::net::{Backoff, display_url};
use crate::settings::Settings;
use crate::stream::deliveries::Update;

/// The place behind deliveries that are not forwarded is written at most so often.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// The attempt to fetch a delivery that is told of: some ten seconds after the first.
const TOLD_AT: u32 = 6;

/// Forwards deliveries one after the other, or shows them.
pub(super) struct Forwarder<'s> {
    settings: &'s Settings,
    client: Client,
    target: Option<TargetClient>,
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

impl<'s> Forwarder<'s> {
    pub(super) fn new(
        settings: &'s Settings,
        client: Client,
        target: Option<TargetClient>,
        attempts: u32,
        place: Option<PlaceFile>,
    ) -> Self {
        let keys = Keys::of_terminal();
        let from = display_url(&settings.server);
        let said = match &target {
            Some(target) => {
                let keys = if keys.is_some() { " (r: send the last one again, Ctrl-C: end)" } else { "" };
                format!("forwarding deliveries from {from} to {target}{keys}")
            }
            None => format!("showing deliveries from {from}; --forward-to URL forwards them"),
        };
        let report = Report::new(settings);
        let noted = Instant::now();
        Self { settings, client, target, attempts, report, place, noted, keys, said, is_away: false, last: None }
    }

    pub(super) async fn forward_all(
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
                if self.target.is_some()
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
        let Some(target) = &self.target else { return self.report.shown(view) };
        let Some(url) = target.url(view) else {
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
            let answer = target.send(url.clone(), view, whole, attempt, seen).await;
            let status = answer.status;
            refusals += u32::from(answer.is_for_now());
            if status.is_some() && (!answer.is_for_now() || refusals >= self.attempts) {
                let given_up = format!("given up after {refusals} such answers");
                let text = if answer.is_for_now() { &given_up } else { &answer.text };
                return self.report.forwarded(&Sent { view, status, text, attempt, seen, took: began.elapsed() });
            }
            seen |= answer.may_have_arrived;
            let delay = backoff.next(answer.retry_after);
            let why = status.map_or(answer.text, |status| format!("it answers {status}"));
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
