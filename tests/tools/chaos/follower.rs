//! Followers: each follows calls over as many connections as it takes, and resumes after the last event that it
//! received.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use callscope_tests::Socket;
use fastrand::Rng;
use tokio::time::{Instant, sleep, timeout_at};

use crate::cluster::Cluster;
use crate::follower_kind::FollowerKind;
use crate::plan::{Plan, Shape};
use crate::socket::{ServerMessage, connect, send};
use crate::subscription::{Start, Subscription};
use crate::violations::Violation;

/// Interval at which a follower looks whether there is something else to do.
const TICK: Duration = Duration::from_millis(200);
/// An ended subscription is kept for this time, because what was committed together with the end may still come.
const LINGER: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Follower {
    cluster: Arc<Cluster>,
    kind: FollowerKind,
    name: String,
    rng: Rng,
    subscriptions: Vec<Subscription>,
    /// Subscriptions that ended, with the time at which that was seen.
    over: Vec<(Subscription, Instant)>,
    /// Identifiers requested on this connection, with the numbers of their calls.
    asked: Vec<(String, usize)>,
    /// Numbers of calls to request again, because the storage did not answer.
    again: Vec<usize>,
    pause: Duration,
    /// Whether the end of a subscription does not count until all heads are reached.
    is_strict: bool,
}

impl Follower {
    #[must_use]
    pub fn new(cluster: Arc<Cluster>, kind: FollowerKind, number: usize, rng: Rng) -> Self {
        let name = format!("{kind:?} {number}");
        Self {
            cluster,
            kind,
            name,
            rng,
            subscriptions: Vec::new(),
            over: Vec::new(),
            asked: Vec::new(),
            again: Vec::new(),
            pause: Duration::ZERO,
            is_strict: false,
        }
    }

    /// Returns a follower that only catches up these subscriptions.
    #[must_use]
    pub fn catching_up(cluster: Arc<Cluster>, number: usize, rng: Rng, mut subscriptions: Vec<Subscription>) -> Self {
        for subscription in &mut subscriptions {
            subscription.is_over = false;
        }
        Self { subscriptions, is_strict: true, ..Self::new(cluster, FollowerKind::Live, number, rng) }
    }

    /// Follows until the run is over and returns the subscriptions.
    pub async fn follow(mut self) -> Vec<Subscription> {
        while !self.is_done() {
            self.choose();
            if self.subscriptions.is_empty() {
                sleep(TICK).await;
                continue;
            }
            self.connection().await;
            for subscription in
                self.subscriptions.iter_mut().chain(self.over.iter_mut().map(|(subscription, _)| subscription))
            {
                subscription.confirmed = None;
                subscription.asked.clear();
            }
            self.settle_over(Duration::ZERO);
            let jitter = Duration::from_millis(self.rng.u64(5..40));
            sleep(std::mem::take(&mut self.pause) + jitter).await;
        }
        self.over.into_iter().map(|(subscription, _)| subscription).chain(self.subscriptions).collect()
    }

    /// Returns whether every subscription has reached its head, once the heads are final.
    fn is_done(&mut self) -> bool {
        let cluster = Arc::clone(&self.cluster);
        let Some(heads) = cluster.heads() else { return false };
        // A follower that waited for a call that was never made has nothing to wait for.
        self.subscriptions.retain(|subscription| heads.contains_key(&subscription.call.plan.index));
        let has_all = |subscription: &Subscription| {
            let is_there = subscription.base.is_some() && subscription.last >= heads[&subscription.call.plan.index];
            is_there || (subscription.is_over && !self.is_strict)
        };
        cluster.has_given_up() || self.subscriptions.iter().all(has_all)
    }

    /// Takes further calls while there is room.
    fn choose(&mut self) {
        if self.cluster.is_closing() {
            return;
        }
        for _ in self.subscriptions.len()..self.kind.room() {
            let newest = self.cluster.ledger.newest(if self.kind == FollowerKind::Late { 200 } else { 60 });
            let fits = |call: &Arc<super::ledger::CallLedger>| {
                let is_followed =
                    self.subscriptions.iter().any(|subscription| subscription.call.plan.index == call.plan.index);
                let lingers = self.over.iter().any(|(subscription, _)| subscription.call.plan.index == call.plan.index);
                let is_right = match self.kind {
                    FollowerKind::Late => call.has_ended(),
                    FollowerKind::Waiting => !call.has_ended(),
                    FollowerKind::NoHistory => !call.known().is_empty(),
                    _ => !call.has_ended() && !call.known().is_empty(),
                };
                is_right && !is_followed && !lingers
            };
            let calls: Vec<_> = newest.into_iter().filter(fits).collect();
            if calls.is_empty() {
                return;
            }
            let call = Arc::clone(&calls[self.rng.usize(..calls.len())]);
            // A waiting follower may use a name that becomes known only at the end.
            let names = if self.kind == FollowerKind::Waiting { call.plan.names.clone() } else { call.known() };
            let name = names[self.rng.usize(..names.len())].clone();
            let start = if self.kind == FollowerKind::NoHistory { Start::Live } else { Start::History };
            self.subscriptions.push(Subscription::new(
                call,
                &self.name,
                name,
                start,
                self.kind == FollowerKind::Waiting,
            ));
        }
    }

    /// Runs one connection from the upgrade to its end.
    async fn connection(&mut self) {
        let address = self.cluster.socket(&mut self.rng);
        let Some(mut socket) = connect(address, &self.cluster.token, self.kind == FollowerKind::Slow).await else {
            return;
        };
        self.cluster.ledger.counts.connections.fetch_add(1, Ordering::Relaxed);
        self.asked.clear();
        self.again.clear();
        for at in 0..self.subscriptions.len() {
            self.ask(&mut socket, at).await;
        }
        let (mut taken, mut tick) = (0_u32, Instant::now() + TICK);
        while !self.is_done() {
            match timeout_at(tick, socket.next()).await {
                Ok(Ok(text)) => {
                    self.receive(&text);
                    taken += 1;
                    if self.kind == FollowerKind::Slow && taken.is_multiple_of(6) && !self.cluster.is_closing() {
                        sleep(Duration::from_millis(self.rng.u64(100..4_000))).await;
                    }
                }
                Ok(Err(code)) => return self.closed(code),
                Err(_) => {}
            }
            if Instant::now() >= tick {
                self.look_around(&mut socket).await;
                tick = Instant::now() + TICK;
            }
            if self.subscriptions.is_empty() && self.over.is_empty() && (self.cluster.is_closing() || self.rng.bool()) {
                // Some followers open a new connection for each call, others stay.
                return;
            }
        }
    }

    /// Does what is due besides reading.
    async fn look_around(&mut self, socket: &mut Socket) {
        self.settle_over(LINGER);
        for index in std::mem::take(&mut self.again) {
            if let Some(at) = self.subscriptions.iter().position(|subscription| subscription.call.plan.index == index) {
                self.ask(socket, at).await;
            }
        }
        // A second request for a followed call, perhaps by another name, is confirmed twice, and each event is
        // delivered once.
        if !self.subscriptions.is_empty() && self.rng.u8(..8) == 0 {
            let at = self.rng.usize(..self.subscriptions.len());
            // Until the call ends, the two names of such a call lead to two records.
            if self.subscriptions[at].confirmed.is_some() && self.subscriptions[at].call.plan.shape != Shape::TwoNames {
                self.ask(socket, at).await;
            }
        }
        let before = self.subscriptions.len();
        self.choose();
        for at in before..self.subscriptions.len() {
            self.ask(socket, at).await;
        }
    }

    async fn ask(&mut self, socket: &mut Socket, at: usize) {
        let subscription = &self.subscriptions[at];
        let mut names = vec![subscription.name.clone()];
        if subscription.base.is_some() {
            // Every name, and the record's own id, resumes at the same place.
            names.extend(subscription.call.known());
            names.extend(subscription.record.map(|record| record.to_string()));
        }
        let name = names[self.rng.usize(..names.len())].clone();
        let stands = self.subscriptions[at].last;
        self.subscriptions[at].asked.push(stands);
        let subscription = &self.subscriptions[at];
        self.asked.push((name.clone(), subscription.call.plan.index));
        send(socket, &subscription.request(&name)).await;
    }

    fn closed(&mut self, code: u16) {
        let ledger = &self.cluster.ledger;
        *ledger.counts.closes.lock().unwrap().entry(code).or_default() += 1;
        match code {
            1000 | 1001 | 1005 | 1006 | 4201 => {}
            4101 | 4104 => self.pause = Duration::from_millis(self.rng.u64(20..200)),
            _ => ledger.violations.add(Violation::Refused, || format!("{}: closed with {code}", self.name)),
        }
    }

    fn receive(&mut self, text: &str) {
        let Ok(message) = serde_json::from_str::<ServerMessage>(text) else {
            self.cluster.report(Violation::Altered, || format!("{}: this is not a message: {text:.200}", self.name));
            return;
        };
        match message.r#type.as_str() {
            "transcription" | "call_status" | "call_completed" => self.event(&message, text),
            "subscription_confirmed" => {
                let ended = message.status.as_deref().is_some_and(|status| matches!(status, "completed" | "failed"));
                let cluster = Arc::clone(&self.cluster);
                let cursor = message.cursor.as_deref().unwrap_or_default();
                if let (Some(subscription), Some(record), Some(head)) =
                    (self.asked_for(&message), message.call_id, message.seq)
                {
                    let is_new = message.message.as_deref() == Some("subscribed");
                    subscription.confirm(record, (head, cursor, is_new), ended, &cluster.ledger.violations);
                }
                self.sort_out();
            }
            "call_merged" => {
                self.cluster.ledger.counts.merges.fetch_add(1, Ordering::Relaxed);
                if let Some(subscription) = self.asked_for(&message) {
                    subscription.restart();
                    subscription.record = message.call_id;
                }
            }
            "error" => self.refused(&message),
            "reconnect" => self.pause = Duration::from_millis(message.after_ms.unwrap_or(0).min(1_000)),
            _ => {}
        }
    }

    /// Returns the subscription that a message with an identifier belongs to.
    fn asked_for(&mut self, message: &ServerMessage) -> Option<&mut Subscription> {
        let identifier = message.identifier.as_ref()?;
        let index = self.asked.iter().rev().find(|(name, _)| name == identifier)?.1;
        let over = self.over.iter_mut().map(|(subscription, _)| subscription);
        self.subscriptions.iter_mut().chain(over).find(|subscription| subscription.call.plan.index == index)
    }

    fn event(&mut self, message: &ServerMessage, text: &str) {
        let cluster = Arc::clone(&self.cluster);
        let names = [&message.call_sid, &message.conversation_id];
        let index = names.into_iter().flatten().find_map(|name| Plan::index_of(name));
        let over = self.over.iter_mut().map(|(subscription, _)| subscription);
        let subscription =
            self.subscriptions.iter_mut().chain(over).find(|subscription| Some(subscription.call.plan.index) == index);
        let (Some(subscription), Some(seq)) = (subscription, message.seq) else {
            // The event belongs to a subscription that ended a while ago.
            let is_ours = self.asked.iter().any(|(_, asked)| Some(*asked) == index);
            if !is_ours {
                cluster.report(Violation::Alien, || format!("{}: this was not asked for: {text:.200}", self.name));
            }
            return;
        };
        cluster.ledger.counts.received.fetch_add(1, Ordering::Relaxed);
        let is_next = subscription.receive(seq, text, &cluster.ledger.violations);
        if let (true, Some(said), Some(confirmed)) =
            (is_next && self.kind != FollowerKind::Slow, &message.message_text, subscription.confirmed)
        {
            let now = Instant::now();
            // An event is not late while the answer to its webhook is still on its way.
            if let Some(acknowledged) = subscription.call.acknowledged_at(said)
                && acknowledged.is_none_or(|at| at > confirmed)
            {
                cluster.disturbances.sample(acknowledged.unwrap_or(now), now);
            }
        }
        if message.r#type == "call_completed" {
            subscription.is_over = true;
            self.sort_out();
        }
    }

    fn refused(&mut self, message: &ServerMessage) {
        let cluster = Arc::clone(&self.cluster);
        let name = self.name.clone();
        let Some(subscription) = self.asked_for(message) else {
            cluster.report(Violation::Refused, || format!("{name}: {message:?}"));
            return;
        };
        let index = subscription.call.plan.index;
        subscription.refuse(message.code.as_deref(), message.message.as_deref(), &cluster.ledger.violations);
        self.again.push(index);
    }

    /// Moves ended subscriptions to `over`.
    fn sort_out(&mut self) {
        if self.cluster.heads().is_some() {
            return;
        }
        let (over, subscriptions) =
            std::mem::take(&mut self.subscriptions).into_iter().partition(|subscription| subscription.is_over);
        self.subscriptions = subscriptions;
        self.over.extend(Vec::into_iter(over).map(|subscription| (subscription, Instant::now())));
    }

    fn settle_over(&mut self, after: Duration) {
        let (old, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.over).into_iter().partition(|(_, since)| since.elapsed() >= after);
        self.over = rest;
        self.cluster.archive(old.into_iter().map(|(subscription, _)| subscription));
    }
}
