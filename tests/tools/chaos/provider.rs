//! The provider: it sends the webhooks of each call's plan, each of them until it is answered 2xx.

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
use crate::plan::{CallShape, DedupBy, Plan, TurnPlan};
use crate::violations::Violation;
use callscope_tests::server::{SECRET, unix_secs};

/// Tries of one delivery, after which its servers count as stuck.
const MAX_TRIES: usize = 2_000;

/// A webhook that can be sent any number of times.
#[derive(Debug, Clone)]
struct Delivery {
    route: &'static str,
    /// The turn's text or the call's summary, which is the key in the ledger.
    text: String,
    /// The identifier that names the call.
    call_name: String,
    body: Vec<u8>,
    idempotency_key: Option<String>,
    /// The time of the signature if it is a part of the dedup key; `None` if each try is signed at its own time.
    signed_at: Option<i64>,
}

/// Makes one call after the other until the run is closing.
pub async fn post_calls(cluster: Arc<Cluster>, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    while !cluster.is_closing() {
        let call = cluster.ledger.start_call();
        Caller { cluster: Arc::clone(&cluster), call }.run_call(&mut rng).await;
    }
}

#[derive(Clone)]
struct Caller {
    cluster: Arc<Cluster>,
    call: Arc<CallLedger>,
}

impl Caller {
    /// Sends all webhooks of the call.
    async fn run_call(&self, rng: &mut Rng) {
        let plan = &self.call.plan;
        let mut in_flight = JoinSet::new();
        let mut resent_after_end = Vec::new();
        if plan.shape != CallShape::ProviderTurns {
            for (index, turn) in plan.turns.iter().enumerate() {
                // A call has at least one turn, even if the run is closing.
                if self.cluster.is_closing() && index > 0 {
                    break;
                }
                sleep(Duration::from_millis(turn.delay_ms)).await;
                while in_flight.len() >= plan.max_in_flight {
                    in_flight.join_next().await;
                }
                let delivery = Delivery::turn(turn);
                if turn.resend_after_end {
                    resent_after_end.push(delivery.clone());
                }
                let (caller, turn, mut rng) = (self.clone(), turn.clone(), rng.fork());
                in_flight.spawn(async move { caller.send_turn(&turn, &delivery, &mut rng).await });
            }
        }
        // At least one live turn has to be stored before the post-call webhook. Otherwise the transcript in the webhook
        // would become the call's turns.
        if plan.ends_after_turns || self.call.known_names().is_empty() {
            while in_flight.join_next().await.is_some() {}
        }
        let post_call = Delivery::post_call(plan);
        if self.deliver(&post_call, rng).await {
            self.call.record_end();
        }
        while in_flight.join_next().await.is_some() {}
        resent_after_end.push(post_call);
        for delivery in resent_after_end {
            self.resend(&delivery, rng).await;
        }
    }

    async fn send_turn(&self, turn: &TurnPlan, delivery: &Delivery, rng: &mut Rng) {
        if turn.has_partial {
            // Interim transcriptions are not stored, so the answer does not matter.
            let body = turn.partial_body().to_string().into_bytes();
            let _ = self.attempt(&Delivery { body, idempotency_key: None, ..delivery.clone() }, rng).await;
        }
        if turn.copies > 1 {
            self.cluster.ledger.counts.resent.fetch_add(turn.copies as u64 - 1, Ordering::Relaxed);
        }
        let copies = (0..turn.copies).map(|_| {
            let mut rng = rng.fork();
            async move { self.deliver(delivery, &mut rng).await }
        });
        if join_all(copies).await.contains(&true) {
            self.call.add_known_name(&delivery.call_name);
        }
        if turn.resend_at_once {
            self.resend(delivery, rng).await;
        }
    }

    async fn resend(&self, delivery: &Delivery, rng: &mut Rng) {
        self.cluster.ledger.counts.resent.fetch_add(1, Ordering::Relaxed);
        self.deliver(delivery, rng).await;
    }

    /// Sends the delivery until it is answered 2xx, and returns whether it was.
    async fn deliver(&self, delivery: &Delivery, rng: &mut Rng) -> bool {
        self.call.record_sent(&delivery.text, &delivery.call_name);
        let ledger = &self.cluster.ledger;
        for _ in 0..MAX_TRIES {
            if self.cluster.has_given_up() {
                return false;
            }
            match self.attempt(delivery, rng).await {
                Some((status @ 200..300, json)) => {
                    if self.call.record_acknowledged(&delivery.text, status, json, &ledger.violations) {
                        ledger.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    return true;
                }
                // 408: a proxy held the body up; 429: the server is busy; 503: it is draining or its storage is down.
                Some((408 | 429 | 503, _)) => sleep(Duration::from_millis(rng.u64(20..80))).await,
                Some((status, json)) => {
                    ledger.violations.add(Violation::Refused, || format!("{:.60}: {status} {json}", delivery.text));
                    return false;
                }
                None => sleep(Duration::from_millis(rng.u64(5..25))).await,
            }
        }
        ledger
            .violations
            .add(Violation::Stuck, || format!("{:.60}: not acknowledged in {MAX_TRIES} tries", delivery.text));
        false
    }

    /// Sends once, to a random server. `None` means that no answer came: the delivery may be stored or not.
    async fn attempt(&self, delivery: &Delivery, rng: &mut Rng) -> Option<(u16, Value)> {
        let (node, address) = self.cluster.pick_node(rng);
        let incarnation = node.incarnation();
        let signed_at = delivery.signed_at.unwrap_or_else(unix_secs);
        self.cluster.ledger.counts.sent.fetch_add(1, Ordering::Relaxed);
        let mut request = self
            .cluster
            .http
            .post(format!("http://{address}/webhooks/elevenlabs/{}", delivery.route))
            .header(signature::HEADER, signature::sign(SECRET.as_bytes(), signed_at, &delivery.body))
            .body(delivery.body.clone());
        if let Some(key) = &delivery.idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let body = response.bytes().await.ok()?;
        if status < 300 {
            node.record_acknowledged(incarnation);
        }
        Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}

impl Delivery {
    fn turn(turn: &TurnPlan) -> Self {
        // Without a key, equal bytes with an equal signature are one turn, so every try needs the same signature.
        let signed_at = (turn.dedup_by == DedupBy::Bytes).then(unix_secs);
        Self {
            route: "transcription",
            text: turn.text.clone(),
            call_name: turn.named_by.1.clone(),
            body: turn.body().to_string().into_bytes(),
            idempotency_key: (turn.dedup_by == DedupBy::IdempotencyKey).then(|| turn.dedup_key()),
            signed_at,
        }
    }

    fn post_call(plan: &Plan) -> Self {
        Self {
            route: "post-call",
            text: plan.summary(),
            call_name: plan.names[plan.names.len() - 1].clone(),
            body: plan.post_call_body().to_string().into_bytes(),
            idempotency_key: None,
            signed_at: None,
        }
    }
}
