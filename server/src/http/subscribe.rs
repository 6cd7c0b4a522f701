//! `GET /ws/calls/transcriptions`: the upgrade to a WebSocket.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use callscope_common::ErrorCode;
use callscope_common::protocol::{BEARER_PROTOCOL_PREFIX, SUBPROTOCOL};
use rocket::data::{IoHandler, IoStream};
use rocket::http::Status;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::response::{self, Responder, Response};
use rocket::{State, get, tokio};

use super::AppState;
use super::guard::{bearer, unauthenticated};
use crate::auth::{Identity, TokenError};
use crate::clock;
use crate::http::error::ApiError;
use crate::live::Hub;
use crate::live::session::Session;
use crate::policy::Timing;
use crate::store::Store;
use crate::transport::connections::LivePermit;

/// The parts of an upgrade request that decide on it.
pub struct UpgradeRequest<'r> {
    /// Whether the request has exactly one `Sec-WebSocket-Key`, of 16 bytes (RFC 6455, section 4.2.1).
    has_key: bool,
    token: Option<&'r str>,
    is_protocol_offered: bool,
    origin: Option<&'r str>,
    host: Option<&'r str>,
    remote_addr: Option<SocketAddr>,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for UpgradeRequest<'r> {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        let headers = request.headers();
        let protocols = || headers.get("Sec-WebSocket-Protocol").flat_map(|value| value.split(',')).map(str::trim);
        let offered_token = protocols().find_map(|protocol| protocol.strip_prefix(BEARER_PROTOCOL_PREFIX));
        let query_token = || request.query_value::<&str>("token").and_then(Result::ok);
        let mut keys = headers.get("Sec-WebSocket-Key");
        let is_key = |key: &str| BASE64_STANDARD.decode(key.trim()).is_ok_and(|bytes| bytes.len() == 16);
        Outcome::Success(Self {
            has_key: keys.next().is_some_and(is_key) && keys.next().is_none(),
            token: bearer(request).or(offered_token).or_else(query_token),
            is_protocol_offered: protocols().any(|protocol| protocol == SUBPROTOCOL),
            origin: headers.get_one("Origin"),
            host: headers.get_one("Host"),
            remote_addr: request.remote(),
        })
    }
}

/// Upgrades a request to a live connection.
#[get("/ws/calls/transcriptions")]
pub fn websocket(
    ws: rocket_ws::WebSocket,
    upgrade: UpgradeRequest<'_>,
    app: &State<AppState>,
) -> Result<Upgrade, ApiError> {
    if !upgrade.has_key {
        return Err(no_key());
    }
    if !app.origins.allows(upgrade.origin, upgrade.host) {
        return Err(ApiError::forbidden("this origin may not connect")
            .details("CALLSCOPE_PUBLIC_URL sets the server's own origin, CALLSCOPE_ALLOWED_ORIGINS lists others"));
    }
    if app.hub.is_draining() {
        return Err(ApiError::unavailable("the server is shutting down"));
    }
    let now = clock::now();
    let token = upgrade.token.ok_or(TokenError::Missing).map_err(unauthenticated)?;
    let identity = app.tokens.verify(token, now).map_err(unauthenticated)?;
    let permit = Box::new(app.connections.admit(token, upgrade.remote_addr)?);
    Ok(Upgrade {
        permit,
        accept_key: ws.accept_key().to_owned(),
        is_protocol_offered: upgrade.is_protocol_offered,
        identity,
        remote_addr: upgrade.remote_addr,
        hub: app.hub.clone(),
        store: app.store.clone(),
        timing: Arc::clone(&app.timing),
    })
}

/// Answers requests that are no valid WebSocket upgrade.
#[get("/ws/calls/transcriptions", rank = 2)]
pub fn upgrade_required(requested: WebSocketRequested, upgrade: UpgradeRequest<'_>) -> ApiError {
    if requested.0 && !upgrade.has_key {
        return no_key();
    }
    ApiError::new(
        Status::UpgradeRequired,
        ErrorCode::UpgradeRequired,
        "this path takes only upgrades to a WebSocket of version 13",
    )
}

fn no_key() -> ApiError {
    ApiError::bad_request("an upgrade to a WebSocket needs one Sec-WebSocket-Key of 16 bytes in Base64")
}

/// Whether the request asks for an upgrade to a WebSocket of version 13.
pub struct WebSocketRequested(bool);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for WebSocketRequested {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        let has_value = |header: &str, wanted: &str| {
            let mut values = request.headers().get(header).flat_map(|value| value.split(','));
            values.any(|value| value.trim().eq_ignore_ascii_case(wanted))
        };
        Outcome::Success(Self(has_value("Upgrade", "websocket") && has_value("Sec-WebSocket-Version", "13")))
    }
}

/// A granted upgrade. Its session runs in its own task, so that Rocket can end the request.
pub struct Upgrade {
    permit: Box<LivePermit>,
    accept_key: String,
    is_protocol_offered: bool,
    identity: Identity,
    remote_addr: Option<SocketAddr>,
    hub: Hub,
    store: Store,
    timing: Arc<Timing>,
}

impl<'r> Responder<'r, 'r> for Upgrade {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'r> {
        let mut response = Response::build();
        response.raw_header("Sec-WebSocket-Version", "13").raw_header("Sec-WebSocket-Accept", self.accept_key.clone());
        if self.is_protocol_offered {
            response.raw_header("Sec-WebSocket-Protocol", SUBPROTOCOL);
        }
        response.upgrade("websocket", self).ok()
    }
}

#[rocket::async_trait]
impl IoHandler for Upgrade {
    async fn io(self: Pin<Box<Self>>, io: IoStream) -> io::Result<()> {
        let Self { permit, identity, remote_addr, hub, store, timing, .. } = *Pin::into_inner(self);
        let session = Box::new(Session::new(io, identity, remote_addr, hub, store, timing));
        tokio::spawn(async move {
            session.run().await;
            drop(permit);
        });
        Ok(())
    }
}
