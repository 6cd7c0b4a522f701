//! The routes of the HTTP API.

use std::cmp::Reverse;
use std::fmt::Display;

use callscope_common::api::{
    AttemptList, CallView, ConnectionView, DeliveryView, EventList, Replayed, Stats, SubscriptionView, TranscriptView,
    WholeDelivery,
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

/// Most calls that a list to choose from asks for.
const LISTED: usize = 100;

impl Client {
    /// Whether the server of `settings` takes the token; any request of a reader tells.
    pub(crate) async fn check_token(settings: &Settings) -> Result<()> {
        Self::new(settings)?.calls(&[("limit", "1".into())]).await.map(drop)
    }

    /// A page of the calls, newest first.
    pub(crate) async fn calls(&self, query: &Query) -> Result<Page<CallView>> {
        self.get(&["api", "v1", "calls"], query).await
    }

    /// The calls that have not ended, newest first.
    pub(crate) async fn live_calls(&self) -> Result<Vec<CallView>> {
        let mut live = self.listed(Some(CallStatus::InProgress)).await?;
        live.extend(self.listed(Some(CallStatus::Initiated)).await?);
        live.sort_by_key(|call| Reverse(call.created_at));
        Ok(live)
    }

    /// The calls that have not ended, and the newest of the others.
    pub(crate) async fn recent_calls(&self) -> Result<Vec<CallView>> {
        let mut calls = self.live_calls().await?;
        let newest = self.listed(None).await?;
        calls.extend(newest.into_iter().filter(|call| call.status.is_ended()));
        Ok(calls)
    }

    async fn listed(&self, status: Option<CallStatus>) -> Result<Vec<CallView>> {
        let mut query = vec![("limit", LISTED.to_string())];
        query.extend(status.map(|status| ("status", status.to_string())));
        Ok(self.calls(&query).await?.into_values())
    }

    /// A call, by any of its identifiers.
    pub(crate) async fn call(&self, id: &str) -> Result<Raw<CallView>> {
        self.get(&["api", "v1", "calls", id], &[]).await
    }

    /// The turns of a call: from `auto`, the `live` ones or the `final` ones of the provider.
    pub(crate) async fn transcript(&self, id: &str, source: &str) -> Result<Raw<TranscriptView>> {
        let query = [("format", "json".to_owned()), ("source", source.to_owned())];
        self.get(&["api", "v1", "calls", id, "transcript"], &query).await
    }

    /// At most `limit` events of a call, behind a cursor or a seq.
    pub(crate) async fn events(&self, id: &str, after: impl Display, limit: impl Display) -> Result<EventList> {
        let query = [("after", after.to_string()), ("limit", limit.to_string())];
        self.get(&["api", "v1", "calls", id, "events"], &query).await
    }

    /// The live connections of all server processes.
    pub(crate) async fn connections(&self) -> Result<Page<ConnectionView>> {
        self.get(&["api", "v1", "admin", "connections"], &[]).await
    }

    /// Closes a connection.
    pub(crate) async fn kick(&self, id: Uuid) -> Result<()> {
        self.delete(&["api", "v1", "admin", "connections", &id.to_string()]).await
    }

    /// The followed calls.
    pub(crate) async fn subscriptions(&self) -> Result<Page<SubscriptionView>> {
        self.get(&["api", "v1", "admin", "subscriptions"], &[]).await
    }

    /// What the server processes count.
    pub(crate) async fn stats(&self) -> Result<Raw<Stats>> {
        self.get(&["api", "v1", "admin", "stats"], &[]).await
    }

    /// A page of the deliveries, newest first.
    pub(crate) async fn deliveries(&self, query: &Query) -> Result<Page<DeliveryView>> {
        self.get(&["api", "v1", "admin", "deliveries"], query).await
    }

    /// The newest attempts that did not verify.
    pub(crate) async fn attempts(&self, query: &Query) -> Result<AttemptList> {
        let query = [&[("verdict", "unverified".to_owned())], query].concat();
        self.get(&["api", "v1", "admin", "deliveries"], &query).await
    }

    /// A delivery with its headers and its body.
    pub(crate) async fn delivery(&self, id: &str) -> Result<Raw<WholeDelivery>> {
        self.get(&["api", "v1", "admin", "deliveries", id], &[]).await
    }

    /// A delivery with its headers and its body; `None` where the answer has more than `longest` bytes.
    pub(crate) async fn delivery_within(&self, id: Uuid, longest: usize) -> Result<Option<WholeDelivery>> {
        self.get_within(&["api", "v1", "admin", "deliveries", &id.to_string()], longest).await
    }

    /// Takes a delivery up once more; `as_new` lets it take effect again.
    pub(crate) async fn replay_delivery(&self, id: &str, as_new: bool) -> Result<Raw<Replayed>> {
        let query: &Query = if as_new { &[("as_new", "true".to_owned())] } else { &[] };
        self.post(&["api", "v1", "admin", "deliveries", id, "replay"], query).await
    }
}

/// Where `server` takes the webhooks of a route.
pub(crate) fn webhook_url(server: &Url, route: &str) -> Url {
    endpoint(server, &["webhooks", "elevenlabs", route])
}

/// Where `server` takes WebSocket connections.
pub(crate) fn stream_url(server: &Url) -> Url {
    let path: Vec<&str> = protocol::PATH.split('/').filter(|segment| !segment.is_empty()).collect();
    endpoint(server, &path)
}

/// Where `server` says how it is: `healthz` or `readyz`.
pub(crate) fn health_url(server: &Url, check: &str) -> Url {
    endpoint(server, &[check])
}
