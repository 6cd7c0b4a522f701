//! The routes of the HTTP API.

use std::cmp::Reverse;
use std::fmt::Display;

use callscope_common::api::{
    AttemptList, CallView, ConnectionView, DeliveryView, EventList, Replayed, Stats, SubscriptionView, TranscriptView,
    Verdict, WebhookRoute, WholeDelivery,
};
use callscope_common::{CallStatus, protocol};
use url::Url;
use uuid::Uuid;

use super::client::{Client, endpoint};
use super::{Page, Raw};
use crate::exit::Result;
use crate::settings::Settings;

/// Names and values of a query.
pub(crate) type Query = [(&'static str, String)];

/// Most calls of one status in a list to choose from.
const CALLS_PER_STATUS: usize = 100;

impl Client {
    /// Whether the server of `settings` takes the token; any request of a reader tells.
    pub(crate) async fn check_token(settings: &Settings) -> Result<()> {
        Self::new(settings)?.calls(&[("limit", "1".into())]).await.map(drop)
    }

    /// Returns a page of the calls, newest first.
    pub(crate) async fn calls(&self, query: &Query) -> Result<Page<CallView>> {
        self.get(&["api", "v1", "calls"], query).await
    }

    /// Returns the calls that have not ended, newest first.
    pub(crate) async fn live_calls(&self) -> Result<Vec<CallView>> {
        let mut live = self.newest_calls(Some(CallStatus::InProgress)).await?;
        live.extend(self.newest_calls(Some(CallStatus::Initiated)).await?);
        live.sort_by_key(|call| Reverse(call.created_at));
        Ok(live)
    }

    /// Returns the calls that have not ended, then the newest ended ones.
    pub(crate) async fn recent_calls(&self) -> Result<Vec<CallView>> {
        let mut calls = self.live_calls().await?;
        let newest = self.newest_calls(None).await?;
        calls.extend(newest.into_iter().filter(|call| call.status.is_ended()));
        Ok(calls)
    }

    async fn newest_calls(&self, status: Option<CallStatus>) -> Result<Vec<CallView>> {
        let mut query = vec![("limit", CALLS_PER_STATUS.to_string())];
        query.extend(status.map(|status| ("status", status.to_string())));
        Ok(self.calls(&query).await?.into_values())
    }

    /// Returns a call by any of its identifiers.
    pub(crate) async fn call(&self, id: &str) -> Result<Raw<CallView>> {
        self.get(&["api", "v1", "calls", id], &[]).await
    }

    /// Returns the turns of a call. `source` is `live`, `final` (the provider's transcript) or `auto`.
    pub(crate) async fn transcript(&self, id: &str, source: &str) -> Result<Raw<TranscriptView>> {
        let query = [("format", "json".to_owned()), ("source", source.to_owned())];
        self.get(&["api", "v1", "calls", id, "transcript"], &query).await
    }

    /// Returns at most `limit` events of a call after a cursor or a seq.
    pub(crate) async fn events(&self, id: &str, after: impl Display, limit: impl Display) -> Result<EventList> {
        let query = [("after", after.to_string()), ("limit", limit.to_string())];
        self.get(&["api", "v1", "calls", id, "events"], &query).await
    }

    /// Returns the live connections of all server processes.
    pub(crate) async fn connections(&self) -> Result<Page<ConnectionView>> {
        self.get(&["api", "v1", "admin", "connections"], &[]).await
    }

    /// Closes a connection of any server process.
    pub(crate) async fn kick(&self, id: Uuid) -> Result<()> {
        self.delete(&["api", "v1", "admin", "connections", &id.to_string()]).await
    }

    /// Returns the calls that have followers.
    pub(crate) async fn subscriptions(&self) -> Result<Page<SubscriptionView>> {
        self.get(&["api", "v1", "admin", "subscriptions"], &[]).await
    }

    /// Returns the counters of the server processes.
    pub(crate) async fn stats(&self) -> Result<Raw<Stats>> {
        self.get(&["api", "v1", "admin", "stats"], &[]).await
    }

    /// Returns a page of the deliveries, newest first.
    pub(crate) async fn deliveries(&self, query: &Query) -> Result<Page<DeliveryView>> {
        self.get(&["api", "v1", "admin", "deliveries"], query).await
    }

    /// Returns the newest requests whose signature did not verify.
    pub(crate) async fn attempts(&self, query: &Query) -> Result<AttemptList> {
        let query = [&[("verdict", Verdict::Unverified.to_string())], query].concat();
        self.get(&["api", "v1", "admin", "deliveries"], &query).await
    }

    /// Returns a delivery with its headers and its body.
    pub(crate) async fn delivery(&self, id: &str) -> Result<Raw<WholeDelivery>> {
        self.get(&["api", "v1", "admin", "deliveries", id], &[]).await
    }

    /// Returns a delivery with its headers and its body; `None` if the answer is longer than `max_bytes`.
    pub(crate) async fn delivery_within(&self, id: Uuid, max_bytes: usize) -> Result<Option<WholeDelivery>> {
        self.get_within(&["api", "v1", "admin", "deliveries", &id.to_string()], max_bytes).await
    }

    /// Processes a delivery again. With `as_new`, it takes effect even if an equal one did before.
    pub(crate) async fn replay_delivery(&self, id: &str, as_new: bool) -> Result<Raw<Replayed>> {
        let query: &Query = if as_new { &[("as_new", "true".to_owned())] } else { &[] };
        self.post(&["api", "v1", "admin", "deliveries", id, "replay"], query).await
    }
}

/// Returns the URL for webhooks of a route.
pub(crate) fn webhook_url(server: &Url, route: WebhookRoute) -> Url {
    endpoint(server, &["webhooks", "elevenlabs", route.as_str()])
}

/// Returns the URL for WebSocket connections, with the scheme of `server`.
pub(crate) fn stream_url(server: &Url) -> Url {
    let path: Vec<&str> = protocol::PATH.split('/').filter(|segment| !segment.is_empty()).collect();
    endpoint(server, &path)
}

/// Returns the URL of `healthz` or `readyz`.
pub(crate) fn health_url(server: &Url, check: &str) -> Url {
    endpoint(server, &[check])
}
