//! The provider: it sends what a call's plan says, and repeats itself until it gets a 2xx.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use callscope_common::signature;
use fastrand::Rng;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::ledger::CallLedger;
use crate::plan::{Plan, Shape, Tag, TurnPlan};
use crate::violations::Violation;
use callscope_tests::server::{SECRET, now};

/// Tries of one delivery before the run counts as stuck.
const TRIES: usize = 2_000;

/// A webhook that can be sent any number of times.
#[derive(Debug, Clone)]
struct Delivery {
    route: &'static str,
    /// The key in the ledger.
    text: String,
    name: String,
    body: Vec<u8>,
    key: Option<String>,
    /// The time of the signature if the signature is a part of the dedup key; `None` if each try gets its own.
    signed_at: Option<i64>,
}

/// Makes one call after the other until the run closes.
pub async fn post_calls(cluster: Arc<Cluster>, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    while !cluster.is_closing() {
        let call = cluster.ledger.begin();
        Caller { cluster: Arc::clone(&cluster), call }.speak(&mut rng).await;
    }
}

#[derive(Clone)]
struct Caller {
    cluster: Arc<Cluster>,
    call: Arc<CallLedger>,
}

impl Caller {
    async fn speak(&self, rng: &mut Rng) {
        let plan = &self.call.plan;
        let mut under_way = JoinSet::new();
        let mut later = Vec::new();
        if plan.shape != Shape::ProviderTurns {
            for (at, turn) in plan.turns.iter().enumerate() {
                if self.cluster.is_closing() && at > 0 {
                    break;
                }
                sleep(Duration::from_millis(turn.pause)).await;
                while under_way.len() >= plan.at_once {
                    under_way.join_next().await;
                }
                let delivery = Delivery::turn(turn);
                if turn.again.1 {
                    later.push(delivery.clone());
                }
                let (caller, turn, mut rng) = (self.clone(), turn.clone(), rng.fork());
                under_way.spawn(async move { caller.say(&turn, &delivery, &mut rng).await });
            }
        }
        // If no turn came in live, the provider's transcript would become the call's turns.
        if plan.ends_in_order || self.call.known().is_empty() {
            while under_way.join_next().await.is_some() {}
        }
        let end = Delivery::result(plan);
        if self.deliver(&end, rng).await {
            self.call.end();
        }
        while under_way.join_next().await.is_some() {}
        later.push(end);
        for delivery in later {
            self.again(&delivery, rng).await;
        }
    }

    async fn say(&self, turn: &TurnPlan, delivery: &Delivery, rng: &mut Rng) {
        if turn.has_partial {
            // Interim transcriptions are not stored, so this is tried once.
            let partial = Delivery { body: turn.partial().to_string().into_bytes(), key: None, ..delivery.clone() };
            let _ = self.attempt(&partial, rng).await;
        }
        if turn.copies > 1 {
            self.cluster.ledger.counts.resent.fetch_add(turn.copies as u64 - 1, Ordering::Relaxed);
        }
        let copies = (0..turn.copies).map(|_| {
            let mut rng = rng.fork();
            async move { self.deliver(delivery, &mut rng).await }
        });
        if join_all(copies).await.contains(&true) {
            self.call.know(&delivery.name);
        }
        if turn.again.0 {
            self.again(delivery, rng).await;
        }
    }

    async fn again(&self, delivery: &Delivery, rng: &mut Rng) {
        self.cluster.ledger.counts.resent.fetch_add(1, Ordering::Relaxed);
        self.deliver(delivery, rng).await;
    }

    /// Sends until it gets a 2xx and returns whether it did.
    async fn deliver(&self, delivery: &Delivery, rng: &mut Rng) -> bool {
        self.call.send(&delivery.text, &delivery.name);
        let ledger = &self.cluster.ledger;
        for _ in 0..TRIES {
            if self.cluster.has_given_up() {
                return false;
            }
            match self.attempt(delivery, rng).await {
                Some((status @ 200..300, json)) => {
                    if self.call.acknowledge(&delivery.text, status, json, &ledger.violations) {
                        ledger.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    return true;
                }
                // The server is busy, draining or without storage, or one of the run's proxies held the body up.
                Some((408 | 429 | 503, _)) => sleep(Duration::from_millis(rng.u64(20..80))).await,
                Some((status, json)) => {
                    ledger.violations.add(Violation::Refused, || format!("{:.60}: {status} {json}", delivery.text));
                    return false;
                }
                None => sleep(Duration::from_millis(rng.u64(5..25))).await,
            }
        }
        ledger.violations.add(Violation::Stuck, || format!("{:.60}: not acknowledged in {TRIES} tries", delivery.text));
        false
    }

    /// Sends once, to any server. `None` means that no answer came, so the delivery may have been stored or not.
    async fn attempt(&self, delivery: &Delivery, rng: &mut Rng) -> Option<(u16, Value)> {
        let (node, base) = self.cluster.pick_node(rng);
        let incarnation = node.incarnation();
        let at = delivery.signed_at.unwrap_or_else(now);
        self.cluster.ledger.counts.sent.fetch_add(1, Ordering::Relaxed);
        let mut request = self
            .cluster
            .http
            .post(format!("http://{base}/webhooks/elevenlabs/{}", delivery.route))
            .header(signature::HEADER, signature::sign(SECRET.as_bytes(), at, &delivery.body))
            .body(delivery.body.clone());
        if let Some(key) = &delivery.key {
            request = request.header("Idempotency-Key", key);
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let body = response.bytes().await.ok()?;
        if status < 300 {
            node.acknowledge(incarnation);
        }
        Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}

impl Delivery {
    fn turn(turn: &TurnPlan) -> Self {
        // If nothing else tells turns apart, equal bytes within one second are one turn. The texts of a run are unique.
        let signed_at = (turn.tag == Tag::Bytes).then(now);
        Self {
            route: "transcription",
            text: turn.text.clone(),
            name: turn.by.1.clone(),
            body: turn.body().to_string().into_bytes(),
            key: (turn.tag == Tag::Key).then(|| turn.key()),
            signed_at,
        }
    }

    fn result(plan: &Plan) -> Self {
        Self {
            route: "post-call",
            text: plan.summary(),
            name: plan.names[plan.names.len() - 1].clone(),
            body: plan.result().to_string().into_bytes(),
            key: None,
            signed_at: None,
        }
    }
}
