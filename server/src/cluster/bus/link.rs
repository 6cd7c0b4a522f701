//! The connection to Redis: sending, receiving, reconnecting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use callscope_common::CallId;
use tokio::select;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, warn};

use super::health::{ECHO_TIMEOUT, Monitor};
use super::{BusCounters, Incoming};
use crate::cluster::message::{Body, call_of, decode, encode};
use crate::cluster::redis::{OnPush, Pushed, Redis};
use crate::cluster::seal::{Seal, SealError};
use crate::live::Hub;
use crate::log::Notification;
use crate::telemetry::refusals;

const ECHO_INTERVAL: Duration = Duration::from_millis(200);
/// A connection on which no echo has come back for this long is replaced.
const RECONNECT_AFTER: Duration = Duration::from_secs(3);
const SEND_TIMEOUT: Duration = Duration::from_millis(500);
/// First and longest delay before the next attempt to connect. It doubles after each attempt.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Most queue entries that are sent at once.
const MAX_BATCH: usize = 64;

/// The state that the [`Bus`](super::Bus), its task and the callback of the connection share.
pub(super) struct Link {
    pub node: String,
    seal: Seal,
    hub: Hub,
    pub queue: mpsc::Sender<Outgoing>,
    rpcs: mpsc::Sender<Incoming>,
    pub monitor: Monitor,
    /// Whether notifications were dropped and the other processes do not know yet.
    owes_gap: AtomicBool,
    disconnected: Notify,
    pub counters: BusCounters,
}

pub(super) enum Outgoing {
    Notifications(Vec<Notification>),
    /// A message that is encoded and not sealed yet.
    Text(String),
}

/// Why a connection to Redis ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error("the connection broke")]
    Disconnected,
    #[error("what is sent does not come back")]
    NoEcho,
    #[error("Redis takes nothing in")]
    SendTimeout,
}

/// Keeps a connection to Redis until the task is aborted.
pub(super) async fn run(
    link: Arc<Link>,
    address: redis::ConnectionInfo,
    name: String,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    let mut delay = RETRY_DELAYS.0;
    let mut has_warned = false;
    loop {
        let error = link.connect_and_serve(&address, &name, &mut outgoing).await;
        if link.monitor.oldest_echo() > Duration::ZERO {
            // The connection has worked, so its end is the first failure.
            (delay, has_warned) = (RETRY_DELAYS.0, false);
        }
        link.monitor.disconnected();
        while outgoing.try_recv().is_ok() {
            link.record_dropped();
        }
        // The text comes from outside. Debug escapes it, so that it cannot forge a log line.
        let error = error.to_string();
        if !std::mem::replace(&mut has_warned, true) {
            warn!(?error, "no link to the other servers; reconciliation finds their events");
        }
        debug!(?error, ?delay, "connecting to Redis again");
        sleep(delay).await;
        delay = (delay * 2).min(RETRY_DELAYS.1);
    }
}

impl Link {
    pub fn new(node: &str, seal: Seal, hub: Hub, queue: mpsc::Sender<Outgoing>, rpcs: mpsc::Sender<Incoming>) -> Self {
        Self {
            node: node.to_owned(),
            seal,
            hub,
            queue,
            rpcs,
            monitor: Monitor::new(),
            owes_gap: AtomicBool::new(false),
            disconnected: Notify::new(),
            counters: BusCounters::default(),
        }
    }

    async fn connect_and_serve(
        self: &Arc<Self>,
        address: &redis::ConnectionInfo,
        name: &str,
        outgoing: &mut mpsc::Receiver<Outgoing>,
    ) -> LinkError {
        let on_push: OnPush = {
            let link = Arc::clone(self);
            Arc::new(move |pushed| link.on_push(pushed))
        };
        // Consumes a stored notification: the end of an earlier connection must not end this one.
        let _ = futures_util::FutureExt::now_or_never(self.disconnected.notified());
        match Redis::connect(address, name, on_push).await {
            Ok(redis) => self.serve(redis, outgoing).await,
            Err(error) => error.into(),
        }
    }

    /// Sends the queued messages and regular echoes, until the connection fails.
    async fn serve(&self, mut redis: Redis, outgoing: &mut mpsc::Receiver<Outgoing>) -> LinkError {
        self.monitor.connected(redis.channels());
        let connected_at = self.monitor.elapsed();
        let mut ticks = interval(ECHO_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let encode_body = |body: Body<'_>| serde_json::to_string(&body).unwrap_or_default();
        let (echo, gap) = (encode_body(Body::Echo), encode_body(Body::Gap));
        loop {
            let messages = select! {
                () = self.disconnected.notified() => return LinkError::Disconnected,
                _ = ticks.tick() => {
                    let silence = self.monitor.elapsed().saturating_sub(self.monitor.oldest_echo().max(connected_at));
                    if silence > RECONNECT_AFTER {
                        return LinkError::NoEcho;
                    }
                    if silence > ECHO_TIMEOUT && self.monitor.take_down() {
                        warn!("what is sent to Redis does not come back; reconciliation finds the other servers' events");
                    }
                    self.monitor.refresh_health();
                    let mut messages: Vec<_> = (0..redis.channels()).map(|channel| (channel, echo.clone())).collect();
                    if self.monitor.is_up() && self.owes_gap.swap(false, Ordering::SeqCst) {
                        messages.push((0, gap.clone()));
                    }
                    messages
                }
                first = outgoing.recv() => {
                    let mut batch = vec![first.expect("the queue's other end is in `self`")];
                    while batch.len() < MAX_BATCH && let Ok(next) = outgoing.try_recv() {
                        batch.push(next);
                    }
                    encode_batch(&batch, redis.channels())
                }
            };
            // Sealed in the order of sending, because receivers refuse a counter that does not rise.
            let seal = |(channel, body): (usize, String)| Some((channel, self.seal.seal(channel, &body)?));
            let messages: Vec<_> = messages.into_iter().filter_map(seal).collect();
            if messages.is_empty() {
                continue;
            }
            self.counters.published.fetch_add(messages.len() as u64, Ordering::Relaxed);
            let sent = timeout(SEND_TIMEOUT, redis.publish(&messages)).await.map_err(|_| LinkError::SendTimeout);
            if let Err(error) = sent.and_then(|sent| sent.map_err(LinkError::from)) {
                self.record_dropped();
                return error;
            }
        }
    }

    fn on_push(&self, pushed: Pushed<'_>) {
        let (channel, payload) = match pushed {
            Pushed::Message { channel, payload } => (channel, payload),
            Pushed::Disconnected => return self.disconnected.notify_one(),
        };
        let opened = match self.seal.open(channel, payload) {
            Ok(opened) => opened,
            Err(error) => return self.refuse(error),
        };
        let is_own = opened.from == self.node;
        if !is_own {
            self.monitor.mark_alive(&opened.from);
        }
        let body = match serde_json::from_str(opened.body) {
            Ok(body) => body,
            Err(error) => return debug!(%error, "another server's message cannot be read"),
        };
        match body {
            Body::Echo if is_own => self.monitor.record_echo(channel),
            Body::Notifications(notifications) if !is_own => {
                self.counters.received.fetch_add(1, Ordering::Relaxed);
                self.hub.publish(decode(notifications));
            }
            Body::Gap if !is_own => self.monitor.record_gap(),
            // If the queue is full, the question or reply is dropped.
            Body::Rpc(rpc) if !is_own => drop(self.rpcs.try_send(Incoming { from: opened.from.into_owned(), rpc })),
            _ => {}
        }
    }

    fn refuse(&self, error: SealError) {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        if refusals::may_log(|| format!("message over Redis: {error}")) {
            warn!(why = %error, "a message over Redis is not believed");
        }
    }

    /// Counts a dropped message. With the next echo, the other processes are told of the gap.
    pub fn record_dropped(&self) {
        self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        self.owes_gap.store(true, Ordering::SeqCst);
    }
}

/// Encodes a batch: the notifications of each channel as one message, and each text as it is.
fn encode_batch(batch: &[Outgoing], channels: usize) -> Vec<(usize, String)> {
    let mut messages = Vec::new();
    let mut notifications: Vec<Vec<&Notification>> = vec![Vec::new(); channels];
    for outgoing in batch {
        match outgoing {
            Outgoing::Notifications(list) => list.iter().for_each(|notification| {
                notifications[channel(call_of(notification), channels)].push(notification);
            }),
            Outgoing::Text(text) => messages.push((0, text.clone())),
        }
    }
    for (channel, notifications) in notifications.iter().enumerate().filter(|(_, list)| !list.is_empty()) {
        if let Some(text) = encode(notifications) {
            messages.push((channel, text));
        }
    }
    messages
}

/// Returns the channel that carries the notifications of a call.
fn channel(call_id: Option<CallId>, channels: usize) -> usize {
    // The last byte of a UUID of version 7 is random, so calls are spread evenly over the channels.
    call_id.map_or(0, |call_id| usize::from(call_id.as_bytes()[15]) % channels)
}
