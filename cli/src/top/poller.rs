//! Asks the server, again and again, and carries out what was confirmed.

use std::time::Duration;

use callscope_common::api::{CallList, CallView, ConnectionList, DeliveryList, SubscriptionList, TranscriptView};
use callscope_common::text;
use callscope_common::transcript::clock;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::data::{Deed, Errors, Heard, List, Request, Stats, Unverified};
use super::details;
use crate::api::Client;
use crate::command::top::Tab;
use crate::exit::{Exit, Result};
use crate::term::event_loop::Source;

const ADMIN: [&str; 3] = ["api", "v1", "admin"];
/// How many rows of an endless list are looked at.
const NEWEST: &str = "200";
/// How much of what was said last is shown.
const SAID: usize = 20;

/// Looks at the server.
pub struct Poller {
    client: Client,
    tab: watch::Sender<Tab>,
    out: mpsc::Sender<Result<Heard>>,
    heard: mpsc::Receiver<Result<Heard>>,
    looking: JoinHandle<()>,
}

impl Poller {
    /// Begins to look at `tab`, every `interval`.
    pub fn start(client: Client, tab: Tab, interval: Duration) -> Self {
        let (out, heard) = mpsc::channel(16);
        let (tab, tabs) = watch::channel(tab);
        let looking = tokio::spawn(look_on(client.clone(), tabs, interval, out.clone()));
        Self { client, tab, out, heard, looking }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

impl Source for Poller {
    type Message = Heard;
    type Request = Request;

    async fn next(&mut self) -> Result<Heard> {
        match self.heard.recv().await {
            Some(heard) => heard,
            None => std::future::pending().await,
        }
    }

    fn handle(&mut self, request: Request) -> Result<()> {
        let (client, out) = (self.client.clone(), self.out.clone());
        match request {
            Request::Look(tab) => {
                self.tab.send_replace(tab);
            }
            Request::Detail(tab, key) => {
                tokio::spawn(async move {
                    let lines = detail(&client, tab, &key)
                        .await
                        .unwrap_or_else(|failure| vec![("error".into(), failure.message)]);
                    let _ = out.send(Ok(Heard::Detail(tab, key, lines))).await;
                });
            }
            Request::Do(deed) => {
                let tab = self.tab.clone();
                tokio::spawn(async move {
                    let done = carry_out(&client, &deed).await.map_err(|failure| failure.message);
                    let _ = out.send(Ok(Heard::Done(done))).await;
                    // What came of it is looked at at once.
                    tab.send_modify(|_| {});
                });
            }
        }
        Ok(())
    }
}

/// Looks until nobody listens any more. A server that answers once may be away later; one that says no ends it.
async fn look_on(client: Client, mut tabs: watch::Receiver<Tab>, interval: Duration, out: mpsc::Sender<Result<Heard>>) {
    let mut has_answered = false;
    loop {
        let tab = *tabs.borrow_and_update();
        let heard = match look(&client, tab).await {
            Ok((stats, list)) => {
                has_answered = true;
                Ok(Heard::Look(Box::new(stats), list))
            }
            Err(failure) if has_answered && failure.exit != Exit::NotAllowed => Ok(Heard::Silence(failure.message)),
            Err(failure) => Err(failure),
        };
        if out.send(heard).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            changed = tabs.changed() => if changed.is_err() { return },
        }
    }
}

/// One look: what the server counts, and the list of a tab.
pub async fn look(client: &Client, tab: Tab) -> Result<(Stats, List)> {
    let stats: Stats = client.get(&[ADMIN[0], ADMIN[1], ADMIN[2], "stats"], &[]).await?;
    let newest = || ("limit", NEWEST.to_owned());
    let list = match tab {
        Tab::Calls => {
            let list: CallList = client.get(&["api", "v1", "calls"], &[newest()]).await?;
            List::Calls(list.calls)
        }
        Tab::Connections => {
            let list: ConnectionList = client.get(&[ADMIN[0], ADMIN[1], ADMIN[2], "connections"], &[]).await?;
            List::Connections(list.connections)
        }
        Tab::Subscriptions => {
            let list: SubscriptionList = client.get(&[ADMIN[0], ADMIN[1], ADMIN[2], "subscriptions"], &[]).await?;
            List::Subscriptions(list.subscriptions)
        }
        Tab::Deliveries => {
            let list: DeliveryList = client.get(&[ADMIN[0], ADMIN[1], ADMIN[2], "deliveries"], &[newest()]).await?;
            List::Deliveries(list.deliveries)
        }
        Tab::Errors => List::Errors(errors(client).await?),
    };
    Ok((stats, list))
}

async fn errors(client: &Client) -> Result<Errors> {
    #[derive(Deserialize)]
    struct Attempts {
        #[serde(default)]
        unverified: Vec<Unverified>,
    }
    let path = [ADMIN[0], ADMIN[1], ADMIN[2], "deliveries"];
    let verdict = |verdict: &str| [("verdict", verdict.to_owned())];
    let rejected: DeliveryList = client.get(&path, &verdict("rejected")).await?;
    let attempts: Attempts = client.get(&path, &verdict("unverified")).await?;
    Ok(Errors { rejected: rejected.deliveries, unverified: attempts.unverified })
}

async fn detail(client: &Client, tab: Tab, key: &str) -> Result<details::Lines> {
    if tab != Tab::Calls {
        let whole: serde_json::Value = client.get(&[ADMIN[0], ADMIN[1], ADMIN[2], "deliveries", key], &[]).await?;
        return Ok(details::delivery(&whole));
    }
    let call: CallView = client.get(&["api", "v1", "calls", key], &[]).await?;
    let said: TranscriptView = client.get(&["api", "v1", "calls", key, "transcript"], &[]).await?;
    let turns = said.turns.iter().skip(said.turns.len().saturating_sub(SAID));
    let turns: Vec<String> = turns
        .map(|turn| {
            let said = text::one_line(&turn.message_text);
            format!("{} {}: {said}", clock(turn.offset_seconds), turn.speaker_type)
        })
        .collect();
    Ok(details::call(&call, &turns.join("\n")))
}

async fn carry_out(client: &Client, deed: &Deed) -> Result<String> {
    match deed {
        Deed::Kick { connection, who } => {
            client.delete(&[ADMIN[0], ADMIN[1], ADMIN[2], "connections", &connection.to_string()]).await?;
            Ok(format!("kicked {who}"))
        }
        Deed::Replay { delivery, what } => {
            let path = [ADMIN[0], ADMIN[1], ADMIN[2], "deliveries", &delivery.to_string(), "replay"];
            let answer: serde_json::Value = client.post(&path, &[]).await?;
            let verdict = answer["verdict"].as_str().map_or(String::new(), |verdict| format!(": {verdict}"));
            Ok(format!("replayed {what}{verdict}"))
        }
    }
}
