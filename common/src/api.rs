//! The HTTP API's JSON bodies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{CallData, CallId, CallStatus, Identifier, Seq, Speaker, Timestamp};

/// The body of every error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Always `error`.
    pub status: String,
    /// What was wrong.
    pub message: String,
    /// Where, or what to do.
    pub details: Option<String>,
    /// The stable name of the error, for programs.
    #[serde(default)]
    pub code: String,
}

/// A call, as `/api/v1/calls` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallView {
    /// The call's own id.
    pub call_id: CallId,
    /// The `call_sid` of the call.
    pub call_sid: String,
    /// The provider's conversation id, once known.
    pub conversation_id: Option<String>,
    /// Every identifier it can be asked for by, but the call id.
    pub identifiers: Vec<String>,
    /// Where it stands.
    pub status: CallStatus,
    /// What it is about.
    pub subject: Option<String>,
    /// The provider's agent.
    pub agent_id: Option<String>,
    /// What was registered with it.
    pub metadata: Option<Box<RawValue>>,
    /// When the server first heard of it.
    pub created_at: Timestamp,
    /// When its record last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub call_end_time: Option<Timestamp>,
    /// Seq of its newest event.
    pub seq: Seq,
    /// How many turns it has.
    pub turns: i64,
    /// Whether a recording is kept.
    pub has_audio: bool,
    /// Its result, once it ended.
    pub call_data: Option<CallData>,
    /// Seq of its newest event; the same as `seq`.
    #[serde(default)]
    pub head: Seq,
    /// When its newest event was appended; `None` while it has none. It shows a call without an end that has been
    /// silent for long.
    #[serde(default)]
    pub last_event_at: Option<Timestamp>,
    /// When it began, where its result tells.
    #[serde(default)]
    pub call_start_time: Option<Timestamp>,
    /// Its length in whole seconds, where its result tells.
    #[serde(default)]
    pub duration_seconds: Option<i64>,
    /// The value that the call's own backend passes on as the dynamic variable `callscope_link`, so that the
    /// conversation is linked to the call. Only the answer to its registration has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// `GET /api/v1/calls`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallList {
    /// The calls of this page, newest first.
    pub calls: Vec<CallView>,
    /// Asks for the next page; `None` on the last.
    pub next_cursor: Option<String>,
}

/// `POST /api/v1/calls`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewCall {
    /// 1 to 200 characters. Without a `call_sid` it goes into the one that is made up: then 1 to 64 of `A-Za-z0-9._-`.
    pub subject: Option<String>,
    /// The sid; made up where there is none.
    pub call_sid: Option<Identifier>,
    /// The provider's conversation id.
    pub conversation_id: Option<Identifier>,
    /// The provider's agent.
    pub agent_id: Option<String>,
    /// Any JSON, kept with the call.
    pub metadata: Option<Box<RawValue>>,
}

/// `PATCH /api/v1/calls/{id}`: what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallPatch {
    /// Another sid; the old one goes on naming the call.
    pub call_sid: Option<Identifier>,
    /// The provider's conversation id.
    pub conversation_id: Option<Identifier>,
    /// Further identifiers, such as a provider's sid.
    pub identifiers: Vec<Identifier>,
    /// The status; an ended call takes no status but an end.
    pub status: Option<CallStatus>,
    /// What it is about: 1 to 200 characters.
    pub subject: Option<String>,
    /// The provider's agent.
    pub agent_id: Option<String>,
    /// Any JSON, replacing what was there.
    pub metadata: Option<Box<RawValue>>,
    /// Whether an identifier of another call means that both are one.
    pub merge: bool,
}

/// `GET /api/v1/calls/{id}/transcript?format=json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TranscriptView {
    /// The call's own id.
    pub call_id: CallId,
    /// The `call_sid` of the call.
    pub call_sid: String,
    /// The provider's conversation id, once known.
    pub conversation_id: Option<String>,
    /// Where the call stands.
    pub status: CallStatus,
    /// `live`: the turns as they came; `final`: those of the provider's transcript.
    pub source: String,
    /// What was said.
    pub turns: Vec<TurnView>,
}

/// One turn of a [`TranscriptView`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TurnView {
    /// The turn's number in its call.
    pub sequence_number: i64,
    /// The speaker of the turn.
    pub speaker_type: Speaker,
    /// What was said, as it came: untrusted.
    pub message_text: String,
    /// When; `None` where the provider does not say when the call began.
    pub timestamp: Option<Timestamp>,
    /// Seconds since the call's first turn, for the provider's turns since the call's start.
    pub offset_seconds: f64,
    /// The event's place in the log; `None` for the provider's turns.
    pub seq: Option<Seq>,
}

/// `GET /api/v1/calls/{id}/events`.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventList {
    /// The messages as the WebSocket sends them.
    pub events: Vec<Box<RawValue>>,
    /// The log's head.
    pub head: Seq,
}

/// A live connection, as `/api/v1/admin/connections` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectionView {
    /// Made at the upgrade.
    pub connection_id: Uuid,
    /// The token's `uid`, else its `sub`.
    pub user_id: String,
    /// The token's `sub`.
    pub username: String,
    /// `viewer` or `admin`.
    pub role: String,
    /// When it was upgraded.
    pub connected_at: Timestamp,
    /// The peer's address and port.
    pub remote_addr: String,
    /// The sids of the calls it follows.
    pub subscribed_calls: Vec<String>,
    /// Number of events sent to it.
    pub sent: u64,
    /// Events it is behind, over all its subscriptions.
    pub lag: u64,
    /// The server process that holds it.
    pub node: String,
}

/// `GET /api/v1/admin/connections`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectionList {
    /// Every live connection, oldest first.
    pub connections: Vec<ConnectionView>,
    /// The server processes that were seen lately.
    pub nodes: Vec<String>,
    /// Those of them that did not answer in time: their connections are missing here.
    #[serde(default)]
    pub silent_nodes: Vec<String>,
}

/// A followed call, as `/api/v1/admin/subscriptions` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubscriptionView {
    /// The call's own id.
    pub call_id: CallId,
    /// The `call_sid` of the call.
    pub call_sid: String,
    /// The provider's conversation id, once known.
    pub conversation_id: Option<String>,
    /// Where it stands.
    pub status: CallStatus,
    /// Who follows it.
    pub connection_ids: Vec<Uuid>,
}

/// `GET /api/v1/admin/subscriptions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubscriptionList {
    /// By call sid.
    pub subscriptions: Vec<SubscriptionView>,
    /// The server processes that were seen lately.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Those of them that did not answer in time: their subscriptions are missing here.
    #[serde(default)]
    pub silent_nodes: Vec<String>,
}

/// `GET /api/v1/admin/stats`: counts over all server processes, and under `cluster` those of each.
///
/// Keys are sorted, here and in the types below, as every version has sent them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Calls by status.
    pub calls: BTreeMap<String, u64>,
    /// The server processes that were seen lately.
    pub cluster: Vec<NodeView>,
    /// Connections that are open now.
    pub connections: u64,
    /// Connections upgraded since the processes started.
    pub connections_total: u64,
    /// `sqlite` or `postgres`.
    pub database: String,
    /// Deliveries by verdict.
    pub deliveries: BTreeMap<String, u64>,
    /// Events broadcast, each counted once in each process.
    pub events_broadcast: u64,
    /// The rates of all processes since each started, added up.
    pub events_per_second: f64,
    /// Calls followed now.
    pub followed_calls: u64,
    /// Identifiers waited for now.
    pub identifiers_waited_for: u64,
    /// The process that answered.
    pub node: String,
    /// The names of the server processes that were seen lately.
    pub nodes: Vec<String>,
    /// Broadcasts written straight into a socket.
    pub passes_direct: u64,
    /// Broadcasts left to a connection's own task.
    pub passes_left_to_sessions: u64,
    /// Those of `nodes` that did not answer in time.
    pub silent_nodes: Vec<String>,
    /// Webhooks that did not verify.
    pub unverified_deliveries: u64,
    /// Seconds since the process that answered started.
    pub uptime_seconds: u64,
    /// The server's version.
    pub version: String,
    /// How many writes may wait in the process that answered.
    pub write_queue: usize,
    /// Writes that wait.
    pub writes_waiting: u64,
}

impl Stats {
    /// Calls that have not ended.
    pub fn live_calls(&self) -> u64 {
        ["initiated", "in_progress"].iter().filter_map(|status| self.calls.get(*status)).sum()
    }

    /// Returns the number of all calls.
    pub fn all_calls(&self) -> u64 {
        self.calls.values().sum()
    }

    /// All deliveries that verified.
    pub fn all_deliveries(&self) -> u64 {
        self.deliveries.values().sum()
    }

    /// Webhooks that were refused, for whichever reason.
    pub fn refused(&self) -> u64 {
        self.unverified_deliveries + self.deliveries.get("rejected").copied().unwrap_or(0)
    }
}

/// A server process, as `/api/v1/admin/stats` shows it under `cluster`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeView {
    /// Where it listens.
    pub address: String,
    /// The name of the process.
    pub node: String,
    /// Milliseconds since its last sign of life.
    pub seen_ms_ago: i64,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// What it counts; `None` where it did not answer in time.
    pub stats: Option<NodeStats>,
    /// The version of its program.
    pub version: String,
}

/// What one server process counts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStats {
    /// Connections that are open now.
    pub connections: u64,
    /// Connections upgraded since it started.
    pub connections_total: u64,
    /// Announcements it could not send; the sweep of the others finds what they said.
    pub dropped: u64,
    /// Events broadcast, each counted once however many follow.
    pub events_broadcast: u64,
    /// Calls followed now.
    pub followed_calls: u64,
    /// Identifiers waited for now.
    pub identifiers_waited_for: u64,
    /// Whether its link to the other processes works; `None` where there is none.
    pub linked: Option<bool>,
    /// Broadcasts written straight into a socket.
    pub passes_direct: u64,
    /// Broadcasts left to a connection's own task.
    pub passes_left_to_sessions: u64,
    /// Messages it sent to the other processes.
    pub published: u64,
    /// Messages of theirs it took in.
    pub received: u64,
    /// Messages over the link that it did not believe: forged, altered, late or repeated.
    #[serde(default)]
    pub refused: u64,
    /// Webhooks that did not verify.
    pub unverified_deliveries: u64,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Writes that wait.
    pub writes_waiting: u64,
}

/// What came in, as `/api/v1/admin/deliveries` lists it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveryView {
    /// Made on receipt.
    pub delivery_id: Uuid,
    /// `transcription` or `post-call`.
    pub route: String,
    /// The envelope's `type`; `turn` or `partial` for turns.
    pub kind: Option<String>,
    /// `accepted`, `duplicate`, `ignored` or `rejected`.
    pub verdict: String,
    /// Why, where it was not accepted.
    pub reason: Option<String>,
    /// When it came in.
    pub received_at: Timestamp,
    /// The address of the sender.
    pub remote_addr: Option<String>,
    /// The call it belongs to.
    pub call_id: Option<CallId>,
    /// That call's sid.
    #[serde(default)]
    pub call_sid: Option<String>,
    /// That call's conversation id, once known.
    #[serde(default)]
    pub conversation_id: Option<String>,
    /// The HTTP status it was answered with.
    pub response_status: i64,
    /// The body's length in bytes.
    pub body_bytes: i64,
}

/// `GET /api/v1/admin/deliveries`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveryList {
    /// The deliveries of this page, newest first.
    pub deliveries: Vec<DeliveryView>,
    /// Asks for the next page; `None` on the last.
    pub next_cursor: Option<String>,
}

/// `GET /api/v1/admin/deliveries/{id}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WholeDelivery {
    /// The delivery as lists show it.
    #[serde(flatten)]
    pub delivery: DeliveryView,
    /// The delivery that it repeats.
    #[serde(default)]
    pub duplicate_of: Option<Uuid>,
    /// `[[name, value], …]`, in their order.
    pub headers: Box<RawValue>,
    /// As received; `None` where it is not UTF-8, or not kept any more.
    #[serde(default)]
    pub body: Option<String>,
    /// As received, byte for byte; `None` where it is not kept any more.
    #[serde(default)]
    pub body_base64: Option<String>,
    /// Whether headers and body were dropped, by age or by size.
    #[serde(default)]
    pub body_dropped: bool,
    /// The body of its answer.
    #[serde(default)]
    pub response: String,
    /// The events it caused, as the WebSocket sends them.
    #[serde(default)]
    pub events: Vec<Box<RawValue>>,
}

impl WholeDelivery {
    /// Names and values of the headers, in their order.
    ///
    /// # Errors
    /// Returns an error if `headers` is no list of pairs.
    pub fn headers(&self) -> Result<Vec<(String, String)>, serde_json::Error> {
        serde_json::from_str(self.headers.get())
    }
}

/// `POST /api/v1/admin/deliveries/{id}/replay`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Replayed {
    /// The delivery that came of it.
    #[serde(flatten)]
    pub delivery: DeliveryView,
    /// The delivery that was taken up once more.
    pub replay_of: Uuid,
    /// Whether it was to take effect again.
    pub as_new: bool,
    /// The body of the answer.
    pub response: String,
}

/// An attempt at a webhook that did not verify: the facts only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attempt {
    /// When it came in.
    pub at: Timestamp,
    /// `transcription` or `post-call`.
    pub route: String,
    /// The address of the sender.
    pub remote_addr: Option<String>,
    /// What was wrong, as the sender heard it.
    pub reason: String,
    /// The likely cause, by name; `None` where it was not looked for.
    #[serde(default)]
    pub diagnosis: Option<String>,
    /// The server process that refused it.
    #[serde(default)]
    pub node: String,
}

/// `GET /api/v1/admin/deliveries?verdict=unverified`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttemptList {
    /// Always empty: nothing of what did not verify is kept but the facts.
    pub deliveries: Vec<DeliveryView>,
    /// Webhooks that did not verify, newest first.
    pub unverified: Vec<Attempt>,
    /// How many there were since each server started; older ones are counted and not kept.
    pub total: u64,
    /// The server processes that were seen lately.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Those of them that did not answer in time: their attempts are missing here.
    #[serde(default)]
    pub silent_nodes: Vec<String>,
    /// There is but one page.
    pub next_cursor: Option<String>,
}

/// `GET /healthz`: the process is alive.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
    /// The server's version.
    pub version: String,
}

/// `GET /readyz`: 200 if the process can do its work, else 503.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadinessView {
    /// The outcome of each check.
    pub checks: ReadinessChecks,
    /// The name of the process.
    pub node: String,
    /// `ready` or `not ready`.
    pub status: String,
}

/// The checks of [`ReadinessView`]: each is `ok`, or says what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessChecks {
    /// A write through the log writer is committed.
    pub append: String,
    /// The database answers a query.
    pub database: String,
    /// What is committed arrives at a follower.
    pub deliver: String,
    /// The server is not shutting down.
    pub draining: String,
    /// The link to the other servers works; absent where none is set. It does not decide whether the process is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<String>,
    /// The log writer's queue is not nearly full.
    pub write_queue: String,
}
