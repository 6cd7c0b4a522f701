//! Forwards deliveries in the server's commit order, each until the target answers, and keeps the cursor file.

use std::time::Duration;

use callscope_common::api::{Attempt, DeliveryView};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::cursor_file::CursorFile;
use super::fetch::{Fetched, RawDelivery, fetch};
use super::keys::Keys;
use super::report::{Report, Sent};
use super::target_client::TargetClient;
use crate::api::Client;
use crate::exit::{Exit, Failure, Result};
use crate::net::{Backoff, display_url};
use crate::settings::Settings;
use crate::stream::deliveries::Update;

/// Shortest time between two writes of the cursor file for deliveries that are skipped.
const SKIPPED_WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// The attempt to fetch a delivery at which a warning is printed, about ten seconds after the first.
const WARN_AT_ATTEMPT: u32 = 6;

/// Forwards deliveries one after the other, or prints them if there is no target.
pub(super) struct Forwarder<'s> {
    settings: &'s Settings,
    client: Client,
    target: Option<TargetClient>,
    /// How many retryable answers to one delivery end its retries.
    max_refusals: u32,
    report: Report,
    cursor_file: Option<CursorFile>,
    /// When the cursor was last written for a skipped delivery.
    written_at: Instant,
    keys: Option<Keys>,
    /// The message for the first connection; empty once it was printed.
    greeting: String,
    /// Whether the loss of the connection was already printed.
    is_disconnected: bool,
    /// The delivery that was forwarded last, which `r` sends again.
    last: Option<(DeliveryView, RawDelivery)>,
}

/// An update. The outer `Option` is `None` unless it is a delivery that the filter accepts; the inner one is `None` if
/// the delivery was too long to be fetched ahead.
type Item = Result<(Update, Option<Option<Fetched>>)>;

impl<'s> Forwarder<'s> {
    pub(super) fn new(
        settings: &'s Settings,
        client: Client,
        target: Option<TargetClient>,
        max_refusals: u32,
        cursor_file: Option<CursorFile>,
    ) -> Self {
        let keys = Keys::of_terminal();
        let from = display_url(&settings.server);
        let greeting = match &target {
            Some(target) => {
                let keys = if keys.is_some() { " (r: send the last one again, Ctrl-C: end)" } else { "" };
                format!("forwarding deliveries from {from} to {target}{keys}")
            }
            None => format!("showing deliveries from {from}; --forward-to URL forwards them"),
        };
        let report = Report::new(settings);
        let written_at = Instant::now();
        Self {
            settings,
            client,
            target,
            max_refusals,
            report,
            cursor_file,
            written_at,
            keys,
            greeting,
            is_disconnected: false,
            last: None,
        }
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
                    self.report.write_refused(&attempt)?;
                    continue;
                }
                () = Keys::resend_pressed(&mut self.keys) => {
                    self.resend_last().await?;
                    continue;
                }
            };
            let Some(item) = item else { return Err(Failure::new(Exit::StreamLost, "the stream of deliveries ended")) };
            match item? {
                (Update::Began { cursor, resumed }, _) => self.began(&cursor, resumed)?,
                (Update::Lost { reason, delay }, _) => {
                    let secs = delay.as_secs_f64();
                    let what = if self.greeting.is_empty() { "connection lost" } else { "no connection" };
                    let message = format!("{what} ({reason}); trying again in {secs:.1} s");
                    // Printed once until the connection is back.
                    match std::mem::replace(&mut self.is_disconnected, true) {
                        false => self.settings.console.say(message),
                        true => self.settings.console.debug(message),
                    }
                }
                (Update::Failed(failure), _) => return Err(failure),
                (Update::Delivery(message), None) => self.skip(&message.cursor)?,
                (Update::Delivery(message), Some(fetched)) => {
                    self.process(message.delivery, &message.cursor, fetched).await?;
                }
            }
        }
    }

    fn began(&mut self, cursor: &str, resumed: bool) -> Result<()> {
        self.is_disconnected = false;
        if resumed {
            self.settings.console.say("connected again; no delivery was missed");
            return Ok(());
        }
        self.settings.console.say(std::mem::take(&mut self.greeting));
        self.settings.console.debug(format!("following deliveries after {cursor}"));
        // Written before the first delivery too, so that none is missed if this program is stopped before one arrives.
        match &mut self.cursor_file {
            Some(file) if file.cursor().is_none() => file.set_cursor(cursor),
            _ => Ok(()),
        }
    }

    /// Moves the cursor past a delivery that the filter does not accept.
    fn skip(&mut self, cursor: &str) -> Result<()> {
        match &mut self.cursor_file {
            Some(file) if self.written_at.elapsed() >= SKIPPED_WRITE_INTERVAL => {
                self.written_at = Instant::now();
                file.set_cursor(cursor)
            }
            _ => Ok(()),
        }
    }

    async fn process(&mut self, view: DeliveryView, cursor: &str, fetched: Option<Fetched>) -> Result<()> {
        let fetched = match fetched {
            Some(fetched) => fetched,
            None => fetch(&self.client, view.delivery_id).await,
        };
        match self.retry_fetch(view.delivery_id, fetched).await? {
            Some(whole) => {
                let may_be_repeat =
                    self.cursor_file.as_ref().is_some_and(|file| file.sending() == Some(view.delivery_id));
                if self.target.is_some()
                    && let Some(file) = &mut self.cursor_file
                {
                    file.set_sending(view.delivery_id)?;
                }
                self.forward(&view, &whole, may_be_repeat).await?;
                self.last = Some((view, whole));
            }
            None => self
                .settings
                .console
                .warn(format!("{} is left out: it is not kept any more, or cannot be fetched", view.delivery_id)),
        }
        match &mut self.cursor_file {
            Some(file) => file.set_cursor(cursor),
            None => Ok(()),
        }
    }

    /// Returns the delivery that was fetched, and fetches it again after transient failures, without a limit. `None` if
    /// it is not kept any more or cannot be read.
    async fn retry_fetch(&mut self, id: Uuid, mut fetched: Fetched) -> Result<Option<RawDelivery>> {
        let mut backoff = Backoff::default();
        loop {
            match fetched {
                Ok(whole) => return Ok(whole),
                // A transient failure skips no delivery. One warning is printed if it lasts.
                Err(failure) if failure.is_transient => {
                    let message = format!("{id} cannot be fetched now, and is tried again: {}", failure.message);
                    match backoff.attempt() {
                        WARN_AT_ATTEMPT => self.settings.console.warn(message),
                        _ => self.settings.console.debug(message),
                    }
                }
                // A retry would not help, and later deliveries must not wait for this one.
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

    async fn resend_last(&mut self) -> Result<()> {
        match self.last.take() {
            Some((view, whole)) => {
                self.forward(&view, &whole, true).await?;
                self.last = Some((view, whole));
            }
            None => self.settings.console.say("nothing was forwarded yet"),
        }
        Ok(())
    }

    /// Sends a delivery until the target accepts it, refuses it for good, or gives `max_refusals` retryable answers.
    /// `may_be_repeat` says that an earlier attempt may have reached the target.
    async fn forward(&mut self, view: &DeliveryView, whole: &RawDelivery, mut may_be_repeat: bool) -> Result<()> {
        let Some(target) = &self.target else { return self.report.write_received(view) };
        let Some(url) = target.url(view) else {
            let (id, route) = (view.delivery_id, &view.route);
            self.settings
                .console
                .warn(format!("{id} came by the route {route:?}, which {{route}} cannot stand for; it is left out"));
            return Ok(());
        };
        let mut backoff = Backoff::default();
        let (mut refusals, mut is_reported) = (0, false);
        for attempt in 1_u32.. {
            let began = Instant::now();
            let answer = target.send(url.clone(), view, whole, attempt, may_be_repeat).await;
            let status = answer.status;
            refusals += u32::from(answer.is_retryable());
            if status.is_some() && (!answer.is_retryable() || refusals >= self.max_refusals) {
                let given_up = format!("given up after {refusals} such answers");
                let text = if answer.is_retryable() { &given_up } else { &answer.text };
                return self.report.write_forwarded(&Sent {
                    view,
                    status,
                    text,
                    attempt,
                    may_be_repeat,
                    took: began.elapsed(),
                });
            }
            may_be_repeat |= answer.may_have_arrived;
            let delay = backoff.next(answer.retry_after);
            let why = status.map_or(answer.text, |status| format!("it answers {status}"));
            let message = format!("not forwarded ({why}); trying again in {:.1} s", delay.as_secs_f64());
            // Printed once for each delivery.
            if std::mem::replace(&mut is_reported, true) {
                self.settings.console.debug(message);
            } else {
                self.settings.console.say(message);
            }
            tokio::select! {
                () = sleep(delay) => {}
                () = Keys::resend_pressed(&mut self.keys) => {}
            }
        }
        Ok(())
    }
}
