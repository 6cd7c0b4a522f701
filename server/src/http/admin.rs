//! `/api/v1/admin`: connections, subscriptions and statistics of all servers of the cluster.

use std::collections::BTreeMap;
use std::str::FromStr;

use callscope_common::api::{
    ConnectionList, ConnectionView, NodeStats, NodeView, Stats, SubscriptionList, SubscriptionView,
};
use callscope_common::{CallId, ErrorCode, OrUnknown};
use rocket::http::Status;
use rocket::{Route, State, delete, get, routes};
use uuid::Uuid;

use super::{Admin, AppState, Json};
use crate::cluster::{FeedView, Question};
use crate::http::error::ApiError;

pub(super) fn routes() -> Vec<Route> {
    routes![connections, kick, subscriptions, stats]
}

/// Refuses a token that is limited to some calls, because these routes concern all calls.
pub(super) fn require_unscoped(admin: &Admin) -> Result<(), ApiError> {
    match &admin.0.calls {
        Some(_) => Err(ApiError::forbidden("the token is limited to some calls")),
        None => Ok(()),
    }
}

#[get("/connections")]
async fn connections(admin: Admin, app: &State<AppState>) -> Result<Json, ApiError> {
    require_unscoped(&admin)?;
    let replies = app.cluster.ask_all::<ConnectionView>(Question::Connections).await;
    let (nodes, silent_nodes) = (replies.names(), replies.silent);
    let mut connections: Vec<_> = replies.entries.into_iter().map(|(_, connection)| connection).collect();
    connections.sort_by_key(|connection| (connection.connected_at, connection.connection_id));
    Json::of(&ConnectionList { connections, nodes, silent_nodes })
}

#[delete("/connections/<connection_id>")]
async fn kick(connection_id: &str, admin: Admin, app: &State<AppState>) -> Result<Status, ApiError> {
    require_unscoped(&admin)?;
    let missing = || ApiError::new(Status::NotFound, ErrorCode::ConnectionNotFound, "no such connection");
    let id = Uuid::parse_str(connection_id).map_err(|_| missing())?;
    if app.hub.kick(id) {
        return Ok(Status::NoContent);
    }
    let replies = app.cluster.ask_all::<bool>(Question::Kick(id)).await;
    match (replies.entries.is_empty(), &replies.silent[..]) {
        (false, _) => Ok(Status::NoContent),
        (true, []) => Err(missing()),
        (true, silent) => Err(ApiError::unavailable("a server that may hold the connection did not answer")
            .details(format!("no answer from {}", silent.join(", ")))),
    }
}

#[get("/subscriptions")]
async fn subscriptions(admin: Admin, app: &State<AppState>) -> Result<Json, ApiError> {
    require_unscoped(&admin)?;
    let replies = app.cluster.ask_all::<FeedView>(Question::Feeds).await;
    let (nodes, silent_nodes) = (replies.names(), replies.silent);
    let mut followers: BTreeMap<CallId, Vec<Uuid>> = BTreeMap::new();
    for (_, (call_id, connection_ids)) in replies.entries {
        followers.entry(call_id).or_default().extend(connection_ids);
    }
    let mut subscriptions = Vec::new();
    for (call_id, connection_ids) in followers {
        let Some(call) = app.store.call_info(call_id).await? else { continue };
        subscriptions.push(SubscriptionView {
            call_id: call.call_id,
            call_sid: call.call_sid,
            conversation_id: call.conversation_id,
            status: call.status,
            connection_ids,
        });
    }
    subscriptions.sort_by(|a, b| a.call_sid.cmp(&b.call_sid));
    Json::of(&SubscriptionList { subscriptions, nodes, silent_nodes })
}

/// Returns the sums over all servers, and under `cluster` the counts of each server.
#[get("/stats")]
async fn stats(admin: Admin, app: &State<AppState>) -> Result<Json, ApiError> {
    require_unscoped(&admin)?;
    let replies = app.cluster.ask_all::<NodeStats>(Question::Stats).await;
    let (nodes, silent_nodes) = (replies.names(), replies.silent.clone());
    let all: BTreeMap<String, NodeStats> = replies.entries.into_iter().collect();
    let sum = |count: fn(&NodeStats) -> u64| all.values().map(count).sum::<u64>();
    // Rates are added, not divided sums, because the servers have not run for equally long.
    let rate = |stats: &NodeStats| stats.events_broadcast as f64 / stats.uptime_seconds.max(1) as f64;
    let cluster: Vec<NodeView> = replies
        .nodes
        .into_iter()
        .map(|row| NodeView {
            stats: all.get(&row.name).cloned(),
            node: row.name,
            version: row.version,
            address: row.address,
            started_at: row.started_at,
            seen_ms_ago: row.seen_micros_ago / 1_000,
        })
        .collect();
    Json::of(&Stats {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: app.cluster.node().to_owned(),
        nodes,
        silent_nodes,
        cluster,
        uptime_seconds: all.get(app.cluster.node()).map_or(0, |stats| stats.uptime_seconds),
        database: app.store.engine().to_owned(),
        calls: counts(app.store.count_by_status().await?),
        deliveries: counts(app.store.count_by_verdict().await?),
        unverified_deliveries: sum(|stats| stats.unverified_deliveries),
        connections: sum(|stats| stats.connections),
        connections_total: sum(|stats| stats.connections_total),
        followed_calls: sum(|stats| stats.followed_calls),
        identifiers_waited_for: sum(|stats| stats.identifiers_waited_for),
        events_broadcast: sum(|stats| stats.events_broadcast),
        events_per_second: all.values().map(rate).sum::<f64>(),
        passes_direct: sum(|stats| stats.passes_direct),
        passes_left_to_sessions: sum(|stats| stats.passes_left_to_sessions),
        writes_waiting: sum(|stats| stats.writes_waiting),
        write_queue: app.log_writer.load().1,
    })
}

/// Counts by the texts that the database holds.
fn counts<T: FromStr + Copy + Eq + AsRef<str>>(rows: Vec<(String, i64)>) -> BTreeMap<OrUnknown<T>, u64> {
    rows.into_iter().map(|(name, count)| (OrUnknown::read(name), count.unsigned_abs())).collect()
}
