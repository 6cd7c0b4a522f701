//! `/api/v1/admin`

use std::sync::atomic::Ordering;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use callscope_common::api::{ConnectionList, DeliveryList, SubscriptionList, SubscriptionView};
use rocket::http::Status;
use rocket::{Route, State, delete, get, routes};
use serde_json::json;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::calls::identifier;
use super::query::{cursor, number, plain};
use super::{Admin, App, Json};
use crate::error::ApiError;
use crate::store::deliveries::DeliveryFilter;

const PAGE: i64 = 50;
const MAX_PAGE: i64 = 500;

pub(super) fn routes() -> Vec<Route> {
    routes![connections, kick, subscriptions, stats, deliveries, delivery]
}

/// A token limited to some calls shows only those: what concerns all calls is not for it.
fn unlimited(admin: &Admin) -> Result<(), ApiError> {
    match &admin.0.calls {
        Some(_) => Err(ApiError::forbidden("the token is limited to some calls")),
        None => Ok(()),
    }
}

#[get("/connections")]
fn connections(admin: Admin, app: &State<App>) -> Result<Json, ApiError> {
    unlimited(&admin)?;
    let connections = app.hub.connections().iter().map(|connection| connection.view(&app.node)).collect();
    Json::of(&ConnectionList { connections, nodes: vec![app.node.clone()] })
}

#[delete("/connections/<connection_id>")]
fn kick(connection_id: &str, admin: Admin, app: &State<App>) -> Result<Status, ApiError> {
    unlimited(&admin)?;
    let missing = || ApiError::new(Status::NotFound, "CONNECTION_NOT_FOUND", "no such connection");
    let id = Uuid::parse_str(connection_id).map_err(|_| missing())?;
    if app.hub.kick(id) { Ok(Status::NoContent) } else { Err(missing()) }
}

#[get("/subscriptions")]
async fn subscriptions(admin: Admin, app: &State<App>) -> Result<Json, ApiError> {
    unlimited(&admin)?;
    let mut subscriptions = Vec::new();
    for feed in app.hub.feeds() {
        let connection_ids = feed.followers();
        let Some(call) = app.store.call_info(feed.call_id).await? else { continue };
        if connection_ids.is_empty() {
            continue;
        }
        subscriptions.push(SubscriptionView {
            call_id: call.call_id,
            call_sid: call.call_sid,
            conversation_id: call.conversation_id,
            status: call.status,
            connection_ids,
        });
    }
    subscriptions.sort_by(|a, b| a.call_sid.cmp(&b.call_sid));
    Json::of(&SubscriptionList { subscriptions })
}

#[get("/stats")]
async fn stats(admin: Admin, app: &State<App>) -> Result<Json, ApiError> {
    unlimited(&admin)?;
    let counts = |rows: Vec<(String, i64)>| rows.into_iter().collect::<std::collections::BTreeMap<_, _>>();
    let (connections, feeds, waiting) = app.hub.sizes();
    let (waiting_writes, write_queue) = app.appender.load();
    let (_, unverified) = app.ingest.unverified();
    let counters = app.hub.counters();
    let uptime = app.started.elapsed().as_secs();
    let events = counters.events.load(Ordering::Relaxed);
    Json::of(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "node": app.node,
        "nodes": [app.node],
        "uptime_seconds": uptime,
        "database": app.store.engine(),
        "calls": counts(app.store.count_by_status().await?),
        "deliveries": counts(app.store.count_by_verdict().await?),
        "unverified_deliveries": unverified,
        "connections": connections,
        "connections_total": counters.connections.load(Ordering::Relaxed),
        "followed_calls": feeds,
        "identifiers_waited_for": waiting,
        "events_broadcast": events,
        "events_per_second": events as f64 / uptime.max(1) as f64,
        "passes_direct": counters.direct.load(Ordering::Relaxed),
        "passes_left_to_sessions": counters.left.load(Ordering::Relaxed),
        "writes_waiting": waiting_writes,
        "write_queue": write_queue,
    }))
}

#[get("/deliveries?<verdict>&<call>&<limit>&<cursor>")]
async fn deliveries(
    verdict: Option<&str>,
    call: Option<&str>,
    limit: Option<&str>,
    cursor: Option<&str>,
    admin: Admin,
    app: &State<App>,
) -> Result<Json, ApiError> {
    unlimited(&admin)?;
    let limit = number("limit", limit, 1, MAX_PAGE)?.unwrap_or(PAGE);
    match verdict {
        Some("unverified") => {
            let (attempts, total) = app.ingest.unverified();
            return Json::of(&json!({"deliveries": [], "unverified": attempts, "total": total, "next_cursor": null}));
        }
        None | Some("accepted" | "duplicate" | "ignored" | "rejected") => {}
        Some(_) => {
            return Err(ApiError::bad_request("`verdict` is unknown")
                .details("one of accepted, duplicate, ignored, rejected, unverified"));
        }
    }
    let call_id = match plain("call", call)? {
        Some(id) => Some(app.store.resolve(&identifier(&id)?).await?.ok_or_else(ApiError::no_call)?.call_id),
        None => None,
    };
    let filter = DeliveryFilter {
        verdict: verdict.map(str::to_owned),
        call_id,
        before: self::cursor(cursor)?,
        limit: limit + 1,
    };
    let mut deliveries = app.store.deliveries(&filter).await?;
    let has_more = i64::try_from(deliveries.len()).unwrap_or(0) > limit;
    deliveries.truncate(usize::try_from(limit).unwrap_or(0));
    let next_cursor = deliveries.last().filter(|_| has_more).map(|delivery| delivery.delivery_id.to_string());
    Json::of(&DeliveryList { deliveries, next_cursor })
}

#[get("/deliveries/<id>")]
async fn delivery(id: &str, admin: Admin, app: &State<App>) -> Result<Json, ApiError> {
    unlimited(&admin)?;
    let missing = || ApiError::new(Status::NotFound, "DELIVERY_NOT_FOUND", "no such delivery");
    let id = Uuid::parse_str(id).map_err(|_| missing())?;
    let whole = app.store.delivery(id).await?.ok_or_else(missing)?;
    let damaged = |_| ApiError::of_status(Status::InternalServerError);
    let mut json = serde_json::to_value(&whole.view).map_err(damaged)?;
    let headers: Box<RawValue> = RawValue::from_string(whole.headers).map_err(damaged)?;
    json["headers"] = serde_json::to_value(headers).map_err(damaged)?;
    json["body"] = std::str::from_utf8(&whole.body).ok().into();
    json["body_base64"] = BASE64_STANDARD.encode(&whole.body).into();
    json["response"] = whole.response.into();
    Json::of(&json)
}
