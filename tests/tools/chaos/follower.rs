//! Followers: each follows calls over one connection after the other, and resumes after the last event that it
//! received.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use callscope_common::protocol::CloseReason;
use callscope_tests::Socket;
use callscope_tests::socket::{CONNECTION_LOST, NO_CLOSE_CODE};
use fastrand::Rng;
use tokio::time::{Instant, sleep, timeout_at};

use crate::cluster::Cluster;
use crate::follower_kind::FollowerKind;
use crate::plan::{CallShape, Plan};
use crate::socket::{ServerMessage, connect, send};
use crate::subscription::{Start, Subscription};
use crate::violations::Violation;

/// Interval of everything that a follower does besides reading.
const TICK: Duration = Duration::from_millis(200);
/// Time for which an ended subscription still accepts events that were committed together with its end.
const ENDED_RETENTION: Duration = Duration::from_secs(3);
/// Number of the newest calls among which a follower chooses.
const NEWEST_CALLS: usize = 60;
/// The same for a follower that replays ended calls, which are older.
const NEWEST_CALLS_FOR_REPLAY: usize = 200;

#[derive(Debug)]
pub struct Follower {
    cluster: Arc<Cluster>,
    kind: FollowerKind,
    name: String,
    rng: Rng,
    subscriptions: Vec<Subscription>,
    /// Subscriptions that the server ended, and when.
    ended: Vec<(Subscription, Instant)>,
    /// Identifiers requested on this connection, with the plan indexes of their calls.
    requested_names: Vec<(String, usize)>,
    /// Plan indexes of the calls whose request was answered with an error and is repeated at the next tick.
    to_retry: Vec<usize>,
    /// Pause before the next connection.
    reconnect_delay: Duration,
    /// Whether an ended subscription, too, has to reach the head of its log.
    must_reach_heads: bool,
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
            ended: Vec::new(),
            requested_names: Vec::new(),
            to_retry: Vec::new(),
            reconnect_delay: Duration::ZERO,
            must_reach_heads: false,
        }
    }

    /// Returns a follower that brings these subscriptions to the heads of their logs and adds no others.
    #[must_use]
    pub fn catching_up(cluster: Arc<Cluster>, number: usize, rng: Rng, mut subscriptions: Vec<Subscription>) -> Self {
        for subscription in &mut subscriptions {
            subscription.has_ended = false;
        }
        Self { subscriptions, must_reach_heads: true, ..Self::new(cluster, FollowerKind::Live, number, rng) }
    }

    /// Follows calls until [`Self::is_done`] and returns the subscriptions that are not archived yet.
    pub async fn follow(mut self) -> Vec<Subscription> {
        while !self.is_done() {
            self.add_subscriptions();
            if self.subscriptions.is_empty() {
                sleep(TICK).await;
                continue;
            }
            self.run_connection().await;
            for subscription in
                self.subscriptions.iter_mut().chain(self.ended.iter_mut().map(|(subscription, _)| subscription))
            {
                subscription.confirmed_at = None;
                subscription.requested_at_seq.clear();
            }
            self.archive_ended(Duration::ZERO);
            let jitter = Duration::from_millis(self.rng.u64(5..40));
            sleep(std::mem::take(&mut self.reconnect_delay) + jitter).await;
        }
        self.ended.into_iter().map(|(subscription, _)| subscription).chain(self.subscriptions).collect()
    }

    /// Returns whether the heads are final and every subscription has reached its head, or the run has given up.
    ///
    /// Subscriptions to planned calls that never started are dropped.
    fn is_done(&mut self) -> bool {
        let cluster = Arc::clone(&self.cluster);
        let Some(heads) = cluster.heads() else { return false };
        self.subscriptions.retain(|subscription| heads.contains_key(&subscription.call.plan.index));
        let is_complete = |subscription: &Subscription| {
            let has_head = subscription.first_owed_after.is_some()
                && subscription.last_seq >= heads[&subscription.call.plan.index];
            has_head || (subscription.has_ended && !self.must_reach_heads)
        };
        cluster.has_given_up() || self.subscriptions.iter().all(is_complete)
    }

    /// Adds subscriptions to random calls up to the limit of its kind. The caller sends the requests.
    fn add_subscriptions(&mut self) {
        if self.cluster.is_closing() {
            return;
        }
        for _ in self.subscriptions.len()..self.kind.max_calls() {
            let count = if self.kind == FollowerKind::Late { NEWEST_CALLS_FOR_REPLAY } else { NEWEST_CALLS };
            let newest = self.cluster.ledger.newest_calls(count);
            let is_candidate = |call: &Arc<super::ledger::CallLedger>| {
                let is_followed =
                    self.subscriptions.iter().any(|subscription| subscription.call.plan.index == call.plan.index);
                let has_just_ended =
                    self.ended.iter().any(|(subscription, _)| subscription.call.plan.index == call.plan.index);
                let fits_kind = match self.kind {
                    FollowerKind::Late => call.has_ended(),
                    FollowerKind::Waiting => !call.has_ended(),
                    FollowerKind::NoHistory => !call.known_names().is_empty(),
                    _ => !call.has_ended() && !call.known_names().is_empty(),
                };
                fits_kind && !is_followed && !has_just_ended
            };
            let calls: Vec<_> = newest.into_iter().filter(is_candidate).collect();
            if calls.is_empty() {
                return;
            }
            let call = Arc::clone(&calls[self.rng.usize(..calls.len())]);
            // A waiting follower may use a name that becomes known only at the end.
            let names = if self.kind == FollowerKind::Waiting { call.plan.names.clone() } else { call.known_names() };
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
    async fn run_connection(&mut self) {
        let address = self.cluster.pick_address(&mut self.rng);
        let Some(mut socket) = connect(address, &self.cluster.token, self.kind == FollowerKind::Slow).await else {
            return;
        };
        self.cluster.ledger.counts.connections.fetch_add(1, Ordering::Relaxed);
        self.requested_names.clear();
        self.to_retry.clear();
        for at in 0..self.subscriptions.len() {
            self.send_request(&mut socket, at).await;
        }
        let (mut message_count, mut next_tick) = (0_u32, Instant::now() + TICK);
        while !self.is_done() {
            match timeout_at(next_tick, socket.next()).await {
                Ok(Ok(text)) => {
                    self.receive(&text);
                    message_count += 1;
                    let is_pause_due = self.kind == FollowerKind::Slow && message_count.is_multiple_of(6);
                    if is_pause_due && !self.cluster.is_closing() {
                        sleep(Duration::from_millis(self.rng.u64(100..4_000))).await;
                    }
                }
                Ok(Err(code)) => return self.on_close(code),
                Err(_) => {}
            }
            if Instant::now() >= next_tick {
                self.on_tick(&mut socket).await;
                next_tick = Instant::now() + TICK;
            }
            if self.subscriptions.is_empty() && self.ended.is_empty() && (self.cluster.is_closing() || self.rng.bool())
            {
                // Half of the time, the next call gets a new connection.
                return;
            }
        }
    }

    /// Archives ended subscriptions, repeats failed requests and subscribes to more calls.
    async fn on_tick(&mut self, socket: &mut Socket) {
        self.archive_ended(ENDED_RETENTION);
        for index in std::mem::take(&mut self.to_retry) {
            if let Some(at) = self.subscriptions.iter().position(|subscription| subscription.call.plan.index == index) {
                self.send_request(socket, at).await;
            }
        }
        // Now and then a followed call is requested again, perhaps by another name. The server confirms the second
        // request too, and still delivers each event once.
        if !self.subscriptions.is_empty() && self.rng.u8(..8) == 0 {
            let at = self.rng.usize(..self.subscriptions.len());
            let subscription = &self.subscriptions[at];
            // The names of a call with `TwoNames` lead to two records until it ends, so its requests are not repeated.
            if subscription.confirmed_at.is_some() && subscription.call.plan.shape != CallShape::TwoNames {
                self.send_request(socket, at).await;
            }
        }
        let first_new = self.subscriptions.len();
        self.add_subscriptions();
        for at in first_new..self.subscriptions.len() {
            self.send_request(socket, at).await;
        }
    }

    /// Sends a request for `subscriptions[at]` by a random one of the names that lead to its record.
    async fn send_request(&mut self, socket: &mut Socket, at: usize) {
        let subscription = &mut self.subscriptions[at];
        let mut names = vec![subscription.name.clone()];
        if subscription.first_owed_after.is_some() {
            // Every known name, and the `call_id` of the record, lead to the log that is resumed.
            names.extend(subscription.call.known_names());
            names.extend(subscription.record.map(|record| record.to_string()));
        }
        let name = names[self.rng.usize(..names.len())].clone();
        subscription.requested_at_seq.push(subscription.last_seq);
        self.requested_names.push((name.clone(), subscription.call.plan.index));
        send(socket, &subscription.request(&name)).await;
    }

    fn on_close(&mut self, code: u16) {
        let ledger = &self.cluster.ledger;
        *ledger.counts.closes.lock().unwrap().entry(code).or_default() += 1;
        match CloseReason::from_code(code) {
            Some(CloseReason::Normal | CloseReason::GoingAway | CloseReason::PongTimeout) => {}
            Some(CloseReason::TooSlow | CloseReason::StorageDown) => {
                self.reconnect_delay = Duration::from_millis(self.rng.u64(20..200));
            }
            None if matches!(code, NO_CLOSE_CODE | CONNECTION_LOST) => {}
            _ => ledger.violations.add(Violation::Refused, || format!("{}: closed with {code}", self.name)),
        }
    }

    fn receive(&mut self, text: &str) {
        let Ok(message) = serde_json::from_str::<ServerMessage>(text) else {
            self.cluster.report(Violation::Altered, || format!("{}: this is not a message: {text:.200}", self.name));
            return;
        };
        match message.r#type.as_str() {
            "transcription" | "call_status" | "call_completed" => self.receive_event(&message, text),
            "subscription_confirmed" => {
                let call_has_ended = matches!(message.status.as_deref(), Some("completed" | "failed"));
                let cluster = Arc::clone(&self.cluster);
                let cursor = message.cursor.as_deref().unwrap_or_default();
                if let (Some(subscription), Some(record), Some(head)) =
                    (self.subscription_of_identifier(&message), message.call_id, message.seq)
                {
                    let is_new = message.message.as_deref() == Some("subscribed");
                    subscription.confirm(record, (head, cursor, is_new), call_has_ended, &cluster.ledger.violations);
                }
                self.set_ended_aside();
            }
            "call_merged" => {
                self.cluster.ledger.counts.merges.fetch_add(1, Ordering::Relaxed);
                if let Some(subscription) = self.subscription_of_identifier(&message) {
                    subscription.restart();
                    subscription.record = message.call_id;
                }
            }
            "error" => self.receive_error(&message),
            "reconnect" => self.reconnect_delay = Duration::from_millis(message.after_ms.unwrap_or(0).min(1_000)),
            _ => {}
        }
    }

    /// Returns the subscription that was requested by the message's identifier.
    fn subscription_of_identifier(&mut self, message: &ServerMessage) -> Option<&mut Subscription> {
        let identifier = message.identifier.as_ref()?;
        let index = self.requested_names.iter().rev().find(|(name, _)| name == identifier)?.1;
        let ended = self.ended.iter_mut().map(|(subscription, _)| subscription);
        self.subscriptions.iter_mut().chain(ended).find(|subscription| subscription.call.plan.index == index)
    }

    fn receive_event(&mut self, message: &ServerMessage, text: &str) {
        let cluster = Arc::clone(&self.cluster);
        let names = [&message.call_sid, &message.conversation_id];
        let index = names.into_iter().flatten().find_map(|name| Plan::index_of(name));
        let Some(seq) = message.seq else {
            cluster.report(Violation::Altered, || format!("{}: an event without a seq: {text:.200}", self.name));
            return;
        };
        let ended = self.ended.iter_mut().map(|(subscription, _)| subscription);
        let subscription =
            self.subscriptions.iter_mut().chain(ended).find(|subscription| Some(subscription.call.plan.index) == index);
        let Some(subscription) = subscription else {
            // The subscription to a requested call may be archived already. Its event is not checked any more.
            let is_requested = self.requested_names.iter().any(|(_, requested)| Some(*requested) == index);
            if !is_requested {
                cluster.report(Violation::Unexpected, || format!("{}: this was not requested: {text:.200}", self.name));
            }
            return;
        };
        cluster.ledger.counts.received.fetch_add(1, Ordering::Relaxed);
        let is_next = subscription.receive(seq, text, &cluster.ledger.violations);
        if let (true, Some(turn_text), Some(confirmed_at)) =
            (is_next && self.kind != FollowerKind::Slow, &message.message_text, subscription.confirmed_at)
        {
            let now = Instant::now();
            // A turn that was acknowledged before the confirmation is a replay, so its delay says nothing. A turn that
            // arrives before the answer to its webhook has a delay of 0.
            if let Some(acknowledged_at) = subscription.call.acknowledged_at(turn_text)
                && acknowledged_at.is_none_or(|at| at > confirmed_at)
            {
                cluster.disturbances.record_delay(acknowledged_at.unwrap_or(now), now);
            }
        }
        if message.r#type == "call_completed" {
            subscription.has_ended = true;
            self.set_ended_aside();
        }
    }

    fn receive_error(&mut self, message: &ServerMessage) {
        let cluster = Arc::clone(&self.cluster);
        let name = self.name.clone();
        let Some(subscription) = self.subscription_of_identifier(message) else {
            cluster.report(Violation::Refused, || format!("{name}: {message:?}"));
            return;
        };
        let index = subscription.call.plan.index;
        subscription.refuse(message.code.as_deref(), message.message.as_deref(), &cluster.ledger.violations);
        self.to_retry.push(index);
    }

    /// Moves ended subscriptions from `subscriptions` to `ended`.
    fn set_ended_aside(&mut self) {
        // Once the heads are final, `is_done` has to see every subscription, so none is moved any more.
        if self.cluster.heads().is_some() {
            return;
        }
        let (ended, subscriptions) =
            std::mem::take(&mut self.subscriptions).into_iter().partition(|subscription| subscription.has_ended);
        self.subscriptions = subscriptions;
        self.ended.extend(Vec::into_iter(ended).map(|subscription| (subscription, Instant::now())));
    }

    /// Archives the subscriptions that ended at least `min_age` ago.
    fn archive_ended(&mut self, min_age: Duration) {
        let (old, recent): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.ended).into_iter().partition(|(_, ended_at)| ended_at.elapsed() >= min_age);
        self.ended = recent;
        self.cluster.archive(old.into_iter().map(|(subscription, _)| subscription));
    }
}
