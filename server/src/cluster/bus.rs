//! This process's link to the others that share its database.
//!
//! Whether the link works is seen by what it carries: a beat goes out several times a second and must come back. While none
//! does, the link is *down*. While another process that is alive is not heard of, the news is not *whole*. Then the sweep looks
//! more often; it looks at once where another process tells that it had to drop announcements.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use callscope_common::CallId;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio::{select, spawn};
use tracing::{debug, info, warn};

use super::message::{Body, Rpc, call_of, decode, encode};
use super::redis::{OnPush, Pushed, Redis, address};
use super::seal::{Seal, SealError};
use crate::live::Hub;
use crate::log::Notification;
use crate::secret::Secret;
use crate::telemetry::refusals;

/// Between two beats.
const ECHO_INTERVAL: Duration = Duration::from_millis(200);
/// Without a beat that came back, the link is down.
const ECHO_TIMEOUT: Duration = Duration::from_millis(600);
/// Without one for so long, the connection is given up and made anew.
const RECONNECT_AFTER: Duration = Duration::from_secs(3);
/// For what is sent to be taken.
const SEND_DEADLINE: Duration = Duration::from_millis(500);
/// Between two tries to connect, at first and at most.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Announcements that wait for Redis. Beyond that they are dropped: the sweep of the others finds what they said.
const QUEUE: usize = 1_024;
/// Most of them written at once.
const MAX_BATCH: usize = 64;
/// Questions and answers that wait to be read; beyond that they are dropped, and their askers told of no answer.
pub const RPC_QUEUE: usize = 1_024;

/// Handle to the link; cheap to clone.
#[derive(Clone)]
pub struct Bus {
    link: Arc<Link>,
}

struct Link {
    node: String,
    seal: Seal,
    hub: Hub,
    queue: mpsc::Sender<Outgoing>,
    rpcs: mpsc::Sender<Incoming>,
    is_up: AtomicBool,
    health: watch::Sender<LinkHealth>,
    peers: Mutex<Peers>,
    /// Announcements were dropped, and the others were not told yet.
    has_dropped: AtomicBool,
    lost: Notify,
    began: Instant,
    /// When each channel last brought a beat back, in microseconds since `began`; 0 for not yet.
    echoes: RwLock<Vec<AtomicU64>>,
    counters: BusCounters,
}

/// The other processes.
#[derive(Debug, Default)]
struct Peers {
    /// Those that are alive, by the database.
    alive: Vec<String>,
    /// When each was last heard of.
    last_heard: HashMap<String, Instant>,
}

/// How far the others' announcements can be relied on. Each change is a reason to compare heads at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkHealth {
    /// Whether the link is up and all who are alive are heard of.
    pub is_complete: bool,
    /// How often another process said that it had dropped announcements.
    pub gaps: u64,
}

/// Since the process began.
#[derive(Debug, Default)]
pub struct BusCounters {
    /// Messages given to Redis.
    pub published: AtomicU64,
    /// Messages of other processes taken in.
    pub received: AtomicU64,
    /// Messages that were not believed: forged, altered, late or repeated.
    pub refused: AtomicU64,
    /// Announcements that were not sent, since the link was down or full.
    pub dropped: AtomicU64,
}

enum Outgoing {
    Notifications(Vec<Notification>),
    /// A message that is written already, and not sealed yet.
    Text(String),
}

/// What another process asks or answers.
#[derive(Debug)]
pub struct Incoming {
    /// Which process.
    pub from: String,
    /// What it says.
    pub rpc: Rpc,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("node", &self.link.node).field("is_up", &self.is_up()).finish()
    }
}

impl Bus {
    /// Links this process, called `node`, to all that use the same `name` at the Redis of `url`. What others announce goes
    /// to `hub`, what they ask and answer to `rpcs`. Only those are believed that know one of `secrets`. Redis need not be there: it is looked for until the task is aborted.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn start(
        url: &Secret,
        secrets: &[Secret],
        name: &str,
        node: &str,
        hub: Hub,
        rpcs: mpsc::Sender<Incoming>,
    ) -> Result<(Self, JoinHandle<()>), &'static str> {
        let address = address(url.expose())?;
        let (queue, outgoing) = mpsc::channel(QUEUE);
        let link = Arc::new(Link {
            node: node.to_owned(),
            seal: Seal::new(secrets, name, node),
            hub,
            queue,
            rpcs,
            is_up: AtomicBool::new(false),
            health: watch::Sender::new(LinkHealth::default()),
            peers: Mutex::default(),
            has_dropped: AtomicBool::new(false),
            lost: Notify::new(),
            began: Instant::now(),
            echoes: RwLock::default(),
            counters: BusCounters::default(),
        });
        let task = spawn(run(Arc::clone(&link), address, name.to_owned(), outgoing));
        Ok((Self { link }, task))
    }

    /// Whether announcements reach the others, as far as is known.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.link.is_up()
    }

    /// Follows how far the others' announcements can be relied on.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<LinkHealth> {
        self.link.health.subscribe()
    }

    /// Says which other processes are alive, and so must be heard of.
    pub fn set_expected_peers(&self, alive: Vec<String>) {
        let mut peers = self.link.peers.lock();
        peers.last_heard.retain(|peer, _| alive.contains(peer));
        peers.alive = alive;
        drop(peers);
        self.link.refresh_health();
    }

    /// Waits until everything announced so far is on its way.
    pub async fn flush(&self) {
        while self.is_up() && self.link.queue.capacity() < QUEUE {
            sleep(ECHO_INTERVAL / 10).await;
        }
    }

    /// BusCounters since the process began.
    #[must_use]
    pub fn counters(&self) -> &BusCounters {
        &self.link.counters
    }

    /// Announces to the other processes. Never blocks; what cannot go out now is dropped.
    pub(super) fn publish(&self, notifications: Vec<Notification>) {
        // A repeat changes nothing, so it leaves nothing to announce.
        if !notifications.is_empty() {
            self.enqueue(Outgoing::Notifications(notifications));
        }
    }

    /// Asks all other processes, or answers one of them.
    pub fn send(&self, rpc: Rpc) {
        if let Ok(text) = serde_json::to_string(&Body::Rpc(rpc)) {
            self.enqueue(Outgoing::Text(text));
        }
    }

    fn enqueue(&self, outgoing: Outgoing) {
        if !self.is_up() || self.link.queue.try_send(outgoing).is_err() {
            self.link.count_dropped();
        }
    }
}

/// Connects and serves, again and again.
async fn run(link: Arc<Link>, address: redis::ConnectionInfo, name: String, mut outgoing: mpsc::Receiver<Outgoing>) {
    let mut wait = RETRY_DELAYS.0;
    let mut has_warned = false;
    loop {
        let on_push: OnPush = {
            let link = Arc::clone(&link);
            Arc::new(move |pushed| link.on_push(pushed))
        };
        // Whatever an earlier connection said of its end is past.
        let _ = futures_util::FutureExt::now_or_never(link.lost.notified());
        let ended = match Redis::connect(&address, &name, on_push).await {
            Ok(redis) => {
                let ended = link.serve(redis, &mut outgoing).await;
                if link.oldest_echo() > Duration::ZERO {
                    (wait, has_warned) = (RETRY_DELAYS.0, false);
                }
                ended
            }
            Err(error) => error.to_string(),
        };
        link.is_up.store(false, Ordering::SeqCst);
        link.refresh_health();
        link.echoes.write().clear();
        while outgoing.try_recv().is_ok() {
            link.count_dropped();
        }
        if !std::mem::replace(&mut has_warned, true) {
            warn!(why = ?ended, "no link to the other servers; the sweep finds their events");
        }
        debug!(why = ?ended, ?wait, "connecting to Redis again");
        sleep(wait).await;
        wait = (wait * 2).min(RETRY_DELAYS.1);
    }
}

impl Link {
    /// Until the connection is of no use any more; says why.
    async fn serve(&self, mut redis: Redis, outgoing: &mut mpsc::Receiver<Outgoing>) -> String {
        *self.echoes.write() = (0..redis.channels()).map(|_| AtomicU64::new(0)).collect();
        let connected = self.began.elapsed();
        let mut beats = interval(ECHO_INTERVAL);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let own = |body: Body<'_>| serde_json::to_string(&body).unwrap_or_default();
        let (beat, gap) = (own(Body::Echo), own(Body::Gap));
        loop {
            let messages = select! {
                () = self.lost.notified() => return "the connection broke".into(),
                _ = beats.tick() => {
                    let silence = self.began.elapsed().saturating_sub(self.oldest_echo().max(connected));
                    if silence > RECONNECT_AFTER {
                        return "what is sent does not come back".into();
                    }
                    if silence > ECHO_TIMEOUT && self.is_up.swap(false, Ordering::SeqCst) {
                        warn!("what is sent to Redis does not come back; the sweep finds the other servers' events");
                    }
                    self.refresh_health();
                    let mut messages: Vec<_> =
                        (0..redis.channels()).map(|channel| (channel, beat.clone())).collect();
                    if self.is_up() && self.has_dropped.swap(false, Ordering::SeqCst) {
                        messages.push((0, gap.clone()));
                    }
                    messages
                }
                first = outgoing.recv() => {
                    let mut batch = vec![first.expect("the queue's other end is in `self`")];
                    while batch.len() < MAX_BATCH && let Ok(next) = outgoing.try_recv() {
                        batch.push(next);
                    }
                    self.encode_batch(&batch, redis.channels())
                }
            };
            // Sealed as they go out: each channel's counters rise.
            let seal = |(channel, body): (usize, String)| Some((channel, self.seal.seal(channel, &body)?));
            let messages: Vec<_> = messages.into_iter().filter_map(seal).collect();
            if messages.is_empty() {
                continue;
            }
            self.counters.published.fetch_add(messages.len() as u64, Ordering::Relaxed);
            match timeout(SEND_DEADLINE, redis.publish(&messages)).await {
                Ok(Ok(())) => {}
                failed => {
                    self.count_dropped();
                    return failed.map_or("Redis takes nothing in".into(), |error| format!("{error:?}"));
                }
            }
        }
    }

    /// Puts what goes out into one message a channel and kind.
    fn encode_batch(&self, batch: &[Outgoing], channels: usize) -> Vec<(usize, String)> {
        let mut messages = Vec::new();
        let mut notifications: Vec<Vec<&Notification>> = vec![Vec::new(); channels];
        for outgoing in batch {
            match outgoing {
                Outgoing::Notifications(list) => list.iter().for_each(|notification| {
                    notifications[channel(call_of(notification), channels)].push(notification)
                }),
                Outgoing::Text(text) => messages.push((0, text.clone())),
            }
        }
        for (channel, notifications) in
            notifications.iter().enumerate().filter(|(_, notifications)| !notifications.is_empty())
        {
            if let Some(text) = encode(notifications) {
                messages.push((channel, text));
            }
        }
        messages
    }

    fn is_up(&self) -> bool {
        self.is_up.load(Ordering::SeqCst)
    }

    /// How long after `began` the slowest channel's last beat came back.
    fn oldest_echo(&self) -> Duration {
        let oldest = self.echoes.read().iter().map(|echo| echo.load(Ordering::Relaxed)).min();
        Duration::from_micros(oldest.unwrap_or(0))
    }

    fn on_push(&self, pushed: Pushed<'_>) {
        let (channel, payload) = match pushed {
            Pushed::Message { channel, payload } => (channel, payload),
            Pushed::Lost => return self.lost.notify_one(),
        };
        let opened = match self.seal.open(channel, payload) {
            Ok(opened) => opened,
            Err(forged) => return self.refuse(forged),
        };
        let is_own = opened.from == self.node;
        if !is_own {
            self.mark_alive(&opened.from);
        }
        let body = match serde_json::from_str(opened.body) {
            Ok(body) => body,
            Err(error) => return debug!(%error, "another server's message cannot be read"),
        };
        match body {
            Body::Echo if is_own => self.on_echo(channel),
            Body::Notifications(news) if !is_own => {
                self.counters.received.fetch_add(1, Ordering::Relaxed);
                self.hub.publish(decode(news));
            }
            Body::Gap if !is_own => self.health.send_modify(|health| health.gaps += 1),
            // Full: the asker hears of no answer in time.
            Body::Rpc(rpc) if !is_own => drop(self.rpcs.try_send(Incoming { from: opened.from.into_owned(), rpc })),
            _ => {}
        }
    }

    fn refuse(&self, forged: SealError) {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        let why = forged.as_str();
        if refusals::may_log(|| format!("message over Redis: {why}")) {
            warn!(why, "a message over Redis is not believed");
        }
    }

    fn on_echo(&self, channel: usize) {
        let now = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(echo) = self.echoes.read().get(channel) {
            echo.store(now, Ordering::Relaxed);
        }
        let is_complete = self.began.elapsed().saturating_sub(self.oldest_echo()) <= ECHO_TIMEOUT;
        if is_complete && !self.is_up.swap(true, Ordering::SeqCst) {
            info!("linked to the other servers");
            self.refresh_health();
        }
    }

    fn mark_alive(&self, peer: &str) {
        let mut peers = self.peers.lock();
        match peers.last_heard.get_mut(peer) {
            Some(heard) => *heard = Instant::now(),
            None => {
                peers.last_heard.insert(peer.to_owned(), Instant::now());
            }
        }
    }

    fn count_dropped(&self) {
        self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        self.has_dropped.store(true, Ordering::SeqCst);
    }

    /// Finds out whether the news is whole.
    fn refresh_health(&self) {
        let is_complete = self.is_up() && {
            let peers = self.peers.lock();
            let is_heard =
                |peer| peers.last_heard.get(peer).is_some_and(|heard: &Instant| heard.elapsed() < ECHO_TIMEOUT);
            peers.alive.iter().all(is_heard)
        };
        self.health.send_if_modified(|health| std::mem::replace(&mut health.is_complete, is_complete) != is_complete);
    }
}

/// Which channel carries a call's announcements.
fn channel(call_id: Option<CallId>, channels: usize) -> usize {
    // The last bytes of a UUID of version 7 are random.
    call_id.map_or(0, |call_id| usize::from(call_id.as_bytes()[15]) % channels)
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;
    use crate::cluster::Announcer;
    use crate::live::probe::{PROBE_CALL, Probe};

    fn secrets() -> [Secret; 1] {
        [Secret::new("0123456789abcdef0123456789abcdef".into())]
    }

    fn bus(node: &str, name: &str, hub: &Hub) -> (Bus, mpsc::Receiver<Incoming>) {
        let url = std::env::var("CALLSCOPE_TEST_REDIS")
            .expect("CALLSCOPE_TEST_REDIS names no Redis; tests/run starts one and sets it");
        let (rpcs, said) = mpsc::channel(RPC_QUEUE);
        let (bus, _) = Bus::start(&Secret::new(url), &secrets(), name, node, hub.clone(), rpcs).expect("a URL");
        (bus, said)
    }

    async fn up(bus: &Bus) {
        bus.health().wait_for(|health| health.is_complete).await.expect("the link comes about");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_process_that_falls_silent_or_dropped_something_is_noticed() {
        let name = Uuid::new_v4().to_string();
        let (here, _here) = bus("here", &name, &Hub::on_tasks());
        let url = Secret::new(std::env::var("CALLSCOPE_TEST_REDIS").expect("set"));
        let (rpcs, _said) = mpsc::channel(RPC_QUEUE);
        let (there, task) = Bus::start(&url, &secrets(), &name, "there", Hub::on_tasks(), rpcs).expect("a URL");
        up(&here).await;
        up(&there).await;
        here.set_expected_peers(vec!["there".into()]);
        up(&here).await;
        there.link.count_dropped();
        here.health().wait_for(|health| health.gaps == 1).await.expect("it says so");
        task.abort();
        here.health().wait_for(|health| !health.is_complete).await.expect("its silence is noticed");
        assert!(here.is_up());
        here.set_expected_peers(Vec::new());
        up(&here).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_one_announces_another_hears_and_strangers_do_not() {
        let name = Uuid::new_v4().to_string();
        let hubs = [Hub::on_tasks(), Hub::on_tasks(), Hub::on_tasks()];
        let (here, _here) = bus("here", &name, &hubs[0]);
        let (there, _there) = bus("there", &name, &hubs[1]);
        let (stranger, _stranger) = bus("stranger", "another cluster", &hubs[2]);
        for bus in [&here, &there, &stranger] {
            up(bus).await;
        }
        let mut probe = Probe::new(&hubs[1]);
        let announcer = Announcer::Joined(hubs[0].clone(), here);
        announcer
            .publish(vec![Notification::PartialTurn { call_id: PROBE_CALL, frame: r#"{"text":"a word"}"#.into() }]);
        probe.receives("a word").await.expect("the pipe stands");
        assert_eq!(there.counters().received.load(Ordering::Relaxed), 1);
        assert_eq!(stranger.counters().received.load(Ordering::Relaxed), 0);
        // Nothing to say, or nothing that may be said, is no reason to hang up.
        let too_long = format!("{:?}", "x".repeat(100_000)).into();
        announcer.publish(Vec::new());
        announcer.publish(vec![Notification::PartialTurn { call_id: PROBE_CALL, frame: too_long }]);
        announcer
            .publish(vec![Notification::PartialTurn { call_id: PROBE_CALL, frame: r#"{"text":"another"}"#.into() }]);
        probe.receives("another").await.expect("the pipe stands");
        assert!(announcer.bus().is_some_and(Bus::is_up));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn questions_and_answers_find_their_way() {
        let name = Uuid::new_v4().to_string();
        let (here, mut asked) = bus("here", &name, &Hub::on_tasks());
        let (there, mut said) = bus("there", &name, &Hub::on_tasks());
        up(&here).await;
        up(&there).await;
        let id = Uuid::new_v4();
        let text = |text: &str| RawValue::from_string(text.to_owned()).expect("JSON");
        here.send(Rpc::Ask { id, question: text("\"how many\"") });
        let Some(Incoming { from, rpc: Rpc::Ask { id: heard, question } }) = said.recv().await else {
            panic!("no question")
        };
        assert_eq!((&*from, heard, question.get()), ("here", id, "\"how many\""));
        there.send(Rpc::Reply { id, part: text("[3]"), is_last: true });
        let Some(Incoming { from, rpc: Rpc::Reply { part, is_last: true, .. } }) = asked.recv().await else {
            panic!("no answer")
        };
        assert_eq!((&*from, part.get()), ("there", "[3]"));
    }

    /// Whoever may publish in the channel can neither show, end, ask nor answer anything.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_a_stranger_publishes_is_refused_and_counted() {
        let name = Uuid::new_v4().to_string();
        let hubs = [Hub::on_tasks(), Hub::on_tasks()];
        let (here, mut asked) = bus("here", &name, &hubs[0]);
        let (there, _there) = bus("there", &name, &hubs[1]);
        up(&here).await;
        up(&there).await;
        let mut probe = Probe::new(&hubs[0]);
        let channel = format!("callscope:{name}");
        let url = std::env::var("CALLSCOPE_TEST_REDIS").expect("set");
        let client = redis::Client::open(url).expect("a URL");
        // What one of us said, to be repeated and altered.
        let mut listener = client.get_async_pubsub().await.expect("Redis");
        listener.subscribe(&channel).await.expect("subscribed");
        let mut heard = Box::pin(listener.into_on_message());
        let announcer = Announcer::Joined(hubs[1].clone(), there.clone());
        announcer
            .publish(vec![Notification::PartialTurn { call_id: PROBE_CALL, frame: r#"{"text":"a word"}"#.into() }]);
        let said = loop {
            let message = futures_util::StreamExt::next(&mut heard).await.expect("a message");
            let payload: String = message.get_payload().expect("text");
            if payload.contains("a word") {
                break payload;
            }
        };
        probe.receives("a word").await.expect("the true one is shown");
        let received = here.counters().received.load(Ordering::Relaxed);
        let refused = here.counters().refused.load(Ordering::Relaxed);
        let id = Uuid::new_v4();
        let mut publisher = client.get_multiplexed_async_connection().await.expect("Redis");
        let forged = [
            format!(
                r#"{{"from":"there","body":{{"news":[{{"partial":{{"call_id":"{PROBE_CALL}","frame":{{"text":"forged"}}}}}}]}}}}"#
            ),
            format!(r#"{{"from":"x","body":{{"word":{{"ask":{{"id":"{id}","question":"connections"}}}}}}}}"#),
            format!(r#"{{"from":"x","body":{{"word":{{"ask":{{"id":"{id}","question":{{"kick":"{id}"}}}}}}}}}}"#),
            r#"{"from":"there","body":"gap"}"#.into(),
            said.replace("a word", "forged"),
            said.clone(),
            String::new(),
        ];
        for message in &forged {
            let _: i64 =
                redis::cmd("PUBLISH").arg(&channel).arg(message).query_async(&mut publisher).await.expect("sent");
        }
        // What comes behind them in the channel shows that they were all looked at.
        announcer
            .publish(vec![Notification::PartialTurn { call_id: PROBE_CALL, frame: r#"{"text":"the next"}"#.into() }]);
        probe.receives("the next").await.expect("the true one is shown");
        assert_eq!(here.counters().refused.load(Ordering::Relaxed), refused + forged.len() as u64);
        assert_eq!(here.counters().received.load(Ordering::Relaxed), received + 1);
        assert_eq!(here.health().borrow().gaps, 0);
        assert!(asked.try_recv().is_err(), "nothing is asked or answered");
    }
}
