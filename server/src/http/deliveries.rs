//! `/api/v1/admin/deliveries`: lists, shows and replays deliveries.

use std::net::SocketAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use callscope_common::ErrorCode;
use callscope_common::api::{Attempt, AttemptList, DeliveryList, ReplayOptions, Replayed, Verdict, WholeDelivery};
use rocket::data::{Data, ToByteUnit};
use rocket::http::{ContentType, Status};
use rocket::{Route, State, get, post, routes};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::admin::require_unscoped;
use super::large_responses::BufferedResponse;
use super::query::{Query, cursor, flag, number, text_without_nul, timestamp};
use super::scope::parse_identifier;
use super::{Admin, AppState, Json};
use crate::cluster::Question;
use crate::http::error::ApiError;
use crate::ingest::Replay;
use crate::store::deliveries::{DeliveryFilter, WholeDelivery as StoredDelivery};

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 500;
/// Maximum length of the body of a replay request.
const MAX_REPLAY_BODY_BYTES: u64 = 1 << 10;

pub(super) fn routes() -> Vec<Route> {
    routes![list, show, replay]
}

#[get("/deliveries")]
async fn list(query: Query<'_>, admin: Admin, app: &State<AppState>) -> Result<Json, ApiError> {
    require_unscoped(&admin)?;
    query.check_parameters(&["verdict", "call", "type", "q", "since", "until", "limit", "cursor"])?;
    let filter = parse_filter(&query, app).await?;
    if filter.verdict == Some(Verdict::Unverified) {
        if let Some(name) = ["call", "cursor"].into_iter().find(|name| query.get(name).is_some()) {
            return Err(ApiError::bad_request(format!("`{name}` cannot be combined with the verdict `unverified`"))
                .details("refused webhooks belong to no call, and their list has one page"));
        }
        return list_refused(&filter, app).await;
    }
    let page = app.store.deliveries(&filter).await?;
    let next_cursor = page.next.map(|id| id.to_string());
    Json::of(&DeliveryList { deliveries: page.deliveries, next_cursor })
}

async fn parse_filter(query: &Query<'_>, app: &AppState) -> Result<DeliveryFilter, ApiError> {
    let verdict = query.get("verdict").map(str::parse).transpose().map_err(|_| {
        ApiError::bad_request("`verdict` is unknown")
            .details("one of accepted, duplicate, ignored, rejected, unverified")
    })?;
    let call_id = match text_without_nul("call", query.get("call"))? {
        Some(id) => Some(app.store.resolve(&parse_identifier(&id)?).await?.ok_or_else(ApiError::no_call)?.call_id),
        None => None,
    };
    Ok(DeliveryFilter {
        verdict,
        kind: text_without_nul("type", query.get("type"))?,
        call_id,
        text: text_without_nul("q", query.get("q"))?.filter(|text| !text.is_empty()),
        since: query.get("since").map(|text| timestamp("since", text)).transpose()?,
        until: query.get("until").map(|text| timestamp("until", text)).transpose()?,
        before: cursor(query.get("cursor"))?,
        limit: number("limit", query.get("limit"), 1, MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT),
    })
}

/// Lists the webhooks that did not verify, of all servers. They are not in the database.
async fn list_refused(filter: &DeliveryFilter, app: &AppState) -> Result<Json, ApiError> {
    let replies = app.cluster.ask_all::<(u64, Vec<Attempt>)>(Question::Unverified).await;
    let (nodes, silent_nodes) = (replies.names(), replies.silent);
    let total = replies.entries.iter().map(|(_, (count, _))| count).sum();
    let with_node_name = |(node, (_, attempts)): (String, (u64, Vec<Attempt>))| {
        attempts.into_iter().map(move |attempt| Attempt { node: node.clone(), ..attempt })
    };
    let mut unverified: Vec<Attempt> = replies.entries.into_iter().flat_map(with_node_name).collect();
    let text = filter.text.as_ref().map(|text| text.to_lowercase());
    let contains = |attempt: &Attempt, text: &str| {
        let parts = [Some(&attempt.reason), attempt.remote_addr.as_ref(), attempt.diagnosis.as_ref()];
        parts.into_iter().flatten().any(|part| part.to_lowercase().contains(text))
    };
    unverified.retain(|attempt| {
        filter.since.is_none_or(|since| attempt.at >= since)
            && filter.until.is_none_or(|until| attempt.at < until)
            && filter.kind.as_ref().is_none_or(|kind| kind == attempt.route.as_str())
            && text.as_ref().is_none_or(|text| contains(attempt, text))
    });
    unverified.sort_by_key(|attempt| std::cmp::Reverse(attempt.at));
    unverified.truncate(usize::try_from(filter.limit).unwrap_or(0));
    Json::of(&AttemptList { deliveries: Vec::new(), unverified, total, nodes, silent_nodes, next_cursor: None })
}

#[get("/deliveries/<id>")]
async fn show(id: &str, admin: Admin, app: &State<AppState>) -> Result<BufferedResponse, ApiError> {
    require_unscoped(&admin)?;
    app.response_memory.buffered(ContentType::JSON, whole_delivery(id, app)).await
}

async fn whole_delivery(id: &str, app: &AppState) -> Result<String, ApiError> {
    let stored = stored_delivery(id, app).await?;
    let damaged = |_| ApiError::of_status(Status::InternalServerError);
    let json = Json::of(&WholeDelivery {
        delivery: stored.view,
        duplicate_of: stored.duplicate_of,
        headers: RawValue::from_string(stored.headers).map_err(damaged)?,
        body: stored.body.as_deref().and_then(|body| std::str::from_utf8(body).ok()).map(str::to_owned),
        body_base64: stored.body.as_ref().map(|body| BASE64_STANDARD.encode(body)),
        body_dropped: stored.body.is_none(),
        response: stored.response,
        events: stored.events,
    })?;
    Ok(json.0)
}

async fn stored_delivery(id: &str, app: &AppState) -> Result<StoredDelivery, ApiError> {
    let missing = || ApiError::new(Status::NotFound, ErrorCode::DeliveryNotFound, "no such delivery");
    let id = Uuid::parse_str(id).map_err(|_| missing())?;
    app.store.delivery(id).await?.ok_or_else(missing)
}

#[post("/deliveries/<id>/replay", data = "<data>")]
async fn replay(
    id: &str,
    query: Query<'_>,
    data: Data<'_>,
    remote: Option<SocketAddr>,
    admin: Admin,
    app: &State<AppState>,
) -> Result<Json, ApiError> {
    require_unscoped(&admin)?;
    query.check_parameters(&["as_new"])?;
    if app.hub.is_draining() {
        return Err(ApiError::unavailable("the server is shutting down"));
    }
    // `as_new` leaves out the search for an earlier delivery, so that the replay takes effect in any case.
    let as_new = flag("as_new", query.get("as_new"))? || replay_options(data).await?.as_new;
    let stored = stored_delivery(id, app).await?;
    let replay_of = stored.view.delivery_id;
    let Some(body) = stored.body else {
        return Err(ApiError::new(Status::Gone, ErrorCode::BodyDropped, "the delivery's body was dropped")
            .details("delivery_retention_days and delivery_max_mb say how long bodies are kept"));
    };
    let replay = Replay {
        replay_of,
        route: stored.view.route,
        received_at: stored.view.received_at,
        headers: stored.headers,
        body,
        remote_addr: remote.map(|remote| remote.to_string()),
        by: admin.0.username,
        as_new,
    };
    let (delivery_id, answer) = app.ingest.replay(replay).await?;
    let deleted = || {
        ApiError::new(
            Status::NotFound,
            ErrorCode::DeliveryNotFound,
            "the replay took effect, but its delivery was deleted before it could be read",
        )
    };
    let delivery = app.store.delivery_view(delivery_id).await?.ok_or_else(deleted)?;
    Json::of(&Replayed { delivery, replay_of, as_new, response: answer.body.to_string() })
}

async fn replay_options(data: Data<'_>) -> Result<ReplayOptions, ApiError> {
    let text = data.open(MAX_REPLAY_BODY_BYTES.bytes()).into_string().await;
    let text = text.map_err(|_| ApiError::bad_request("the body cannot be read"))?;
    if text.trim().is_empty() {
        return Ok(ReplayOptions::default());
    }
    serde_json::from_str(&text).map_err(|error| {
        ApiError::bad_request("the body must be empty or {\"as_new\": true}").details(error.to_string())
    })
}
