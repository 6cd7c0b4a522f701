//! Polls the server and carries out confirmed actions.

use std::time::Duration;

use callscope_common::api::{Stats, Verdict};
use callscope_common::text;
use callscope_common::transcript::clock;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::details;
use super::message::{AdminAction, Errors, List, Message, Request};
use super::tab::Tab;
use crate::api::Client;
use crate::exit::{Exit, Result};
use crate::term::event_loop::Source;

/// How many of the newest calls or deliveries are shown.
const LIST_LIMIT: &str = "200";
/// How many of the last turns are shown in the details of a call.
const LAST_TURNS: usize = 20;

pub(crate) struct Poller {
    client: Client,
    tab: watch::Sender<Tab>,
    out: mpsc::Sender<Result<Message>>,
    messages: mpsc::Receiver<Result<Message>>,
    polling: JoinHandle<()>,
}

impl Poller {
    /// Starts to poll for `tab`, once every `interval`.
    pub(crate) fn start(client: Client, tab: Tab, interval: Duration) -> Self {
        let (out, messages) = mpsc::channel(16);
        let (tab, tabs) = watch::channel(tab);
        let polling = tokio::spawn(poll_loop(client.clone(), tabs, interval, out.clone()));
        Self { client, tab, out, messages, polling }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.polling.abort();
    }
}

impl Source for Poller {
    type Message = Message;
    type Request = Request;

    async fn next(&mut self) -> Result<Message> {
        match self.messages.recv().await {
            Some(message) => message,
            // Unreachable: `self.out` keeps the channel open.
            None => std::future::pending().await,
        }
    }

    fn handle(&mut self, request: Request) -> Result<()> {
        let (client, out) = (self.client.clone(), self.out.clone());
        match request {
            Request::Poll(tab) => {
                self.tab.send_replace(tab);
            }
            Request::Detail(tab, key) => {
                tokio::spawn(async move {
                    let lines = detail(&client, tab, &key)
                        .await
                        .unwrap_or_else(|failure| vec![("error".into(), failure.message)]);
                    let _ = out.send(Ok(Message::Detail(tab, key, lines))).await;
                });
            }
            Request::Execute(action) => {
                let tab = self.tab.clone();
                tokio::spawn(async move {
                    let outcome = execute(&client, &action).await.map_err(|failure| failure.message);
                    let _ = out.send(Ok(Message::Executed(outcome))).await;
                    // Wakes the poll loop at once, so that the list shows what the action changed.
                    tab.send_modify(|_| {});
                });
            }
        }
        Ok(())
    }
}

/// Polls until the view is closed. An error closes the view if the server has never answered or denies access.
async fn poll_loop(
    client: Client,
    mut tabs: watch::Receiver<Tab>,
    interval: Duration,
    out: mpsc::Sender<Result<Message>>,
) {
    let mut has_answered = false;
    loop {
        let tab = *tabs.borrow_and_update();
        let message = match poll(&client, tab).await {
            Ok((stats, list)) => {
                has_answered = true;
                Ok(Message::Polled(Box::new(stats), list))
            }
            Err(failure) if has_answered && failure.exit != Exit::NotAllowed => {
                Ok(Message::Unreachable(failure.message))
            }
            Err(failure) => Err(failure),
        };
        if out.send(message).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            changed = tabs.changed() => if changed.is_err() { return },
        }
    }
}

/// Polls once: the statistics, and the list of a tab.
pub(crate) async fn poll(client: &Client, tab: Tab) -> Result<(Stats, List)> {
    let stats = client.stats().await?.value;
    let newest = || ("limit", LIST_LIMIT.to_owned());
    let list = match tab {
        Tab::Calls => List::Calls(client.calls(&[newest()]).await?.into_values()),
        Tab::Connections => List::Connections(client.connections().await?.into_values()),
        Tab::Subscriptions => List::Subscriptions(client.subscriptions().await?.into_values()),
        Tab::Deliveries => List::Deliveries(client.deliveries(&[newest()]).await?.into_values()),
        Tab::Errors => List::Errors(errors(client).await?),
    };
    Ok((stats, list))
}

async fn errors(client: &Client) -> Result<Errors> {
    let rejected = client.deliveries(&[("verdict", Verdict::Rejected.to_string())]).await?.into_values();
    Ok(Errors { rejected, unverified: client.attempts(&[]).await?.unverified })
}

async fn detail(client: &Client, tab: Tab, key: &str) -> Result<details::Details> {
    if tab != Tab::Calls {
        return Ok(details::delivery(&client.delivery(key).await?.value));
    }
    let call = client.call(key).await?.value;
    let transcript = client.transcript(key, "auto").await?.value;
    let turns = transcript.turns.iter().skip(transcript.turns.len().saturating_sub(LAST_TURNS));
    let turns: Vec<String> = turns
        .map(|turn| {
            let said = text::one_line(&turn.message_text);
            format!("{} {}: {said}", clock(turn.offset_seconds), turn.speaker_type)
        })
        .collect();
    Ok(details::call(&call, &turns.join("\n")))
}

async fn execute(client: &Client, action: &AdminAction) -> Result<String> {
    match action {
        AdminAction::Kick { connection, who } => {
            client.kick(*connection).await?;
            Ok(format!("kicked {who}"))
        }
        AdminAction::Replay { delivery, what } => {
            let replayed = client.replay_delivery(&delivery.to_string(), false).await?.value;
            Ok(format!("replayed {what}: {}", replayed.delivery.verdict))
        }
    }
}
