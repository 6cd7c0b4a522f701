//! Questions to every process, and the replies that arrive in time.

use std::collections::HashSet;
use std::time::Duration;

use callscope_common::CallId;
use callscope_common::api::{ConnectionView, NodeStats};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::debug;
use uuid::Uuid;

use super::Cluster;
use crate::cluster::bus::Incoming;
use crate::cluster::message::Rpc;
use crate::live::connection::{Connection, Progress};
use crate::store::nodes::Node;

/// Timeout of the replies of the other processes.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_ENTRIES_PER_PART: usize = 256;
/// Maximum number of reply parts that wait to be read. Further parts are dropped. A process whose last part is dropped
/// counts as silent.
const PART_QUEUE: usize = 1_024;

/// What one process asks all others. Each reply is a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Connections, as [`ConnectionView`]s.
    Connections,
    /// Followed calls, as [`FeedView`]s.
    Feeds,
    /// Counters, as one [`NodeStats`].
    Stats,
    /// Webhooks that were refused: pairs of a count and a list of [`Attempt`](callscope_common::api::Attempt)s. The
    /// first pair counts all refusals since the process started, the others count 0, so that the counts can be summed.
    Unverified,
    /// Close a connection. The reply is one `true` from the process that had it, and empty from the others.
    Kick(Uuid),
}

/// A call and the connections that follow it.
pub type FeedView = (CallId, Vec<Uuid>);

/// The replies of all processes.
#[derive(Debug)]
pub struct Replies<T> {
    /// Each entry with the process that sent it.
    pub entries: Vec<(String, T)>,
    /// Every process with a recent heartbeat.
    pub nodes: Vec<Node>,
    /// The processes that did not reply in time.
    pub silent: Vec<String>,
}

impl Cluster {
    /// Asks every process, this one included.
    pub async fn ask_all<T: DeserializeOwned>(&self, question: Question) -> Replies<T> {
        let nodes = self.nodes().await;
        let mut replies = Replies { entries: Vec::new(), nodes, silent: Vec::new() };
        for part in self.reply(question) {
            replies.add(&self.shared.node, &part);
        }
        let mut awaited: HashSet<String> = replies.nodes.iter().map(|node| node.name.clone()).collect();
        awaited.remove(&self.shared.node);
        if let (false, Some(bus)) = (awaited.is_empty(), self.shared.bus.as_ref().filter(|bus| bus.is_up())) {
            let (sender, mut parts) = mpsc::channel(PART_QUEUE);
            let open = OpenQuestion::new(self, sender);
            if let Ok(question) = serde_json::value::to_raw_value(&question) {
                bus.send(Rpc::Ask { id: open.id, question });
            }
            let deadline = Instant::now() + REPLY_TIMEOUT;
            while !awaited.is_empty() {
                let Ok(Some(incoming)) = timeout_at(deadline, parts.recv()).await else { break };
                let Incoming { from, rpc: Rpc::Reply { part, is_last, .. } } = incoming else { continue };
                replies.add(&from, &part);
                if is_last {
                    awaited.remove(&from);
                }
            }
        }
        replies.silent = awaited.into_iter().collect();
        replies.silent.sort();
        replies
    }

    /// Answers questions of other processes and passes on their replies, until the task is aborted.
    pub async fn serve_rpc(self, mut rpcs: mpsc::Receiver<Incoming>) {
        while let Some(incoming) = rpcs.recv().await {
            match &incoming.rpc {
                Rpc::Ask { id, question } => {
                    let Some(bus) = &self.shared.bus else { continue };
                    let Ok(question) = serde_json::from_str(question.get()) else {
                        // A process of a newer version asked, and gets no reply from this one.
                        debug!(incoming.from, "question is unknown to this version");
                        continue;
                    };
                    let parts = self.reply(question);
                    let last = parts.len() - 1;
                    for (at, part) in parts.into_iter().enumerate() {
                        bus.send(Rpc::Reply { id: *id, part, is_last: at == last });
                    }
                }
                Rpc::Reply { id, .. } => {
                    let asker = self.shared.open_questions.lock().get(id).cloned();
                    if let Some(asker) = asker {
                        // Fails if the queue is full or the question has timed out: then the part is dropped.
                        let _ = asker.try_send(incoming);
                    }
                }
            }
        }
    }

    /// This process's reply, in at least one part.
    fn reply(&self, question: Question) -> Vec<Box<RawValue>> {
        match question {
            Question::Connections => {
                let connections = self.shared.hub.connections();
                parts(connections.iter().map(|connection| view(connection, &self.shared.node)).collect())
            }
            Question::Feeds => {
                let views = self.shared.hub.followers().into_iter();
                parts(views.filter(|(_, followers)| !followers.is_empty()).collect::<Vec<FeedView>>())
            }
            Question::Stats => parts(vec![self.stats()]),
            Question::Unverified => {
                let (attempts, total) = self.shared.ingest.unverified();
                let mut lists: Vec<(u64, &[_])> =
                    attempts.chunks(MAX_ENTRIES_PER_PART).map(|chunk| (0, chunk)).collect();
                match lists.first_mut() {
                    Some((count, _)) => *count = total,
                    None => lists.push((total, &[])),
                }
                lists.into_iter().flat_map(|list| parts(vec![list])).collect()
            }
            Question::Kick(connection_id) => {
                parts(if self.shared.hub.kick(connection_id) { vec![true] } else { Vec::new() })
            }
        }
    }

    fn stats(&self) -> NodeStats {
        use std::sync::atomic::Ordering::Relaxed;
        let sizes = self.shared.hub.sizes();
        let counters = self.shared.hub.counters();
        let count = |n: usize| n as u64;
        let bus = self.shared.bus.as_ref();
        let of_bus = |read: fn(&crate::cluster::bus::BusCounters) -> u64| bus.map_or(0, |bus| read(bus.counters()));
        NodeStats {
            uptime_seconds: self.shared.started.elapsed().as_secs(),
            connections: count(sizes.connections),
            connections_total: counters.connections.load(Relaxed),
            followed_calls: count(sizes.followed_calls),
            identifiers_waited_for: count(sizes.awaited_identifiers),
            events_broadcast: counters.events.load(Relaxed),
            passes_direct: counters.direct.load(Relaxed),
            passes_left_to_sessions: counters.left.load(Relaxed),
            unverified_deliveries: self.shared.ingest.unverified().1,
            writes_waiting: count(self.shared.log_writer.load().0),
            linked: self.is_linked(),
            published: of_bus(|counters| counters.published.load(Relaxed)),
            received: of_bus(|counters| counters.received.load(Relaxed)),
            dropped: of_bus(|counters| counters.dropped.load(Relaxed)),
            refused: of_bus(|counters| counters.refused.load(Relaxed)),
        }
    }
}

fn view(connection: &Connection, node: &str) -> ConnectionView {
    let Progress { call_sids, sent, lag } = connection.progress();
    ConnectionView {
        connection_id: connection.connection_id,
        user_id: connection.identity.user_id().to_owned(),
        username: connection.identity.username.clone(),
        role: connection.identity.role.into(),
        connected_at: connection.connected_at,
        remote_addr: connection.remote_addr.map(|addr| addr.to_string()).unwrap_or_default(),
        subscribed_calls: call_sids,
        sent,
        lag,
        node: node.to_owned(),
    }
}

impl<T: DeserializeOwned> Replies<T> {
    fn add(&mut self, from: &str, part: &RawValue) {
        match serde_json::from_str::<Vec<T>>(part.get()) {
            Ok(entries) => self.entries.extend(entries.into_iter().map(|entry| (from.to_owned(), entry))),
            Err(error) => debug!(from, %error, "a reply cannot be read"),
        }
    }

    /// The names of all processes with a recent heartbeat.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }
}

/// A question whose replies are awaited. Replies that arrive after this handle is dropped are ignored.
struct OpenQuestion<'c> {
    cluster: &'c Cluster,
    id: Uuid,
}

impl<'c> OpenQuestion<'c> {
    fn new(cluster: &'c Cluster, sender: mpsc::Sender<Incoming>) -> Self {
        let id = Uuid::new_v4();
        cluster.shared.open_questions.lock().insert(id, sender);
        Self { cluster, id }
    }
}

impl Drop for OpenQuestion<'_> {
    fn drop(&mut self) {
        self.cluster.shared.open_questions.lock().remove(&self.id);
    }
}

/// Encodes a reply in parts. An empty reply has one empty part, because its last part marks its end.
fn parts<T: Serialize>(entries: Vec<T>) -> Vec<Box<RawValue>> {
    let mut parts: Vec<Box<RawValue>> =
        entries.chunks(MAX_ENTRIES_PER_PART).filter_map(|chunk| serde_json::value::to_raw_value(chunk).ok()).collect();
    if parts.is_empty() {
        parts.extend(RawValue::from_string("[]".into()).ok());
    }
    parts
}
