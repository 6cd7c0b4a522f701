//! The HTTP routes. Each parses a request, calls another module and renders the answer.

pub mod admin;
mod audio;
pub mod calls;
pub mod cors;
mod deliveries;
pub mod error;
mod events;
mod guard;
pub mod health;
pub mod large_responses;
pub mod launch;
pub mod origins;
pub(crate) mod query;
pub mod request_log;
pub mod rules;
mod scope;
pub mod subscribe;
mod transcript;
pub mod webhook;

use std::path::PathBuf;
use std::sync::Arc;

use rocket::http::{ContentType, Status};
use rocket::{Build, Request, Rocket, State, catch, catchers, options, routes};

use crate::auth::Tokens;
use crate::cluster::Cluster;
use crate::http::error::ApiError;
use crate::http::large_responses::ResponseMemory;
use crate::http::origins::AllowedOrigins;
use crate::ingest::Ingest;
use crate::ingest::naming::CallLinks;
use crate::live::Hub;
use crate::policy::Timing;
use crate::readiness::Readiness;
use crate::settings::Settings;
use crate::store::{LogWriter, Store};
use crate::transport::bodies::BodyBudget;
use crate::transport::connections::{ConnectionLimits, ConnectionRegistry, descriptors_for_live_connections};

pub use guard::{Admin, Viewer};

/// The state that the routes share.
#[derive(Debug)]
pub struct AppState {
    /// The database, for reads.
    pub store: Store,
    /// The log writer, for all writes.
    pub log_writer: LogWriter,
    /// Verifies and accepts webhooks.
    pub ingest: Arc<Ingest>,
    /// Makes the link that the registration of a call returns.
    pub links: CallLinks,
    /// Every followed call and every connection of this process.
    pub hub: Hub,
    /// Verifies the tokens of requests.
    pub tokens: Tokens,
    /// Limits live connections, and registers the connections in use.
    pub connections: ConnectionRegistry,
    /// The browser origins that may use the server.
    pub origins: AllowedOrigins,
    /// The deadlines of live connections.
    pub timing: Arc<Timing>,
    /// Bounds the memory that large responses take.
    pub response_memory: ResponseMemory,
    /// Bounds the memory that arriving bodies take.
    pub body_budget: BodyBudget,
    /// Maximum length of a post-call webhook's body.
    pub max_post_call_bytes: u64,
    /// This process among its peers.
    pub cluster: Cluster,
    /// Checks whether this process can do its work.
    pub readiness: Readiness,
}

impl AppState {
    /// Builds the state from the settings and the parts of a server.
    #[must_use]
    pub fn new(
        settings: &Settings,
        store: Store,
        log_writer: LogWriter,
        hub: Hub,
        cluster: Cluster,
        ingest: Arc<Ingest>,
    ) -> Self {
        let max_post_call_bytes = settings.max_post_call_mib << 20;
        let limits = ConnectionLimits {
            all: settings.max_connections.unwrap_or_else(descriptors_for_live_connections),
            per_token: settings.max_connections_per_token,
            per_address: settings.max_connections_per_address,
        };
        Self {
            connections: ConnectionRegistry::new(limits),
            links: CallLinks::new(&settings.jwt_secrets),
            tokens: Tokens::of(&settings.jwt_secrets),
            origins: AllowedOrigins::new(settings.allowed_origins.clone(), settings.public_url.as_ref()),
            timing: Arc::new(settings.timing),
            response_memory: ResponseMemory::default(),
            body_budget: BodyBudget::new(settings.body_memory, max_post_call_bytes),
            max_post_call_bytes,
            readiness: Readiness::new(cluster.clone(), store.clone(), log_writer.clone(), hub.clone()),
            store,
            log_writer,
            hub,
            cluster,
            ingest,
        }
    }
}

/// A response body that is serialised JSON.
#[derive(rocket::Responder)]
#[response(content_type = "json")]
pub(crate) struct Json(pub String);

impl Json {
    fn of(value: &impl serde::Serialize) -> Result<Self, ApiError> {
        serde_json::to_string(value).map(Self).map_err(|_| ApiError::of_status(Status::InternalServerError))
    }
}

/// Mounts every route.
#[must_use]
pub fn mount(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket
        .mount(
            "/",
            routes![health::healthz, health::readyz, subscribe::websocket, subscribe::upgrade_required, preflight],
        )
        .mount("/webhooks/elevenlabs", routes![webhook::transcription, webhook::post_call])
        .mount("/api/v1/calls", calls::routes())
        .mount("/api/v1/calls", events::routes())
        .mount("/api/v1/calls", transcript::routes())
        .mount("/api/v1/admin", admin::routes())
        .mount("/api/v1/admin", deliveries::routes())
        .mount("/", rules::routes())
        .register("/", catchers![any_error])
}

/// Answers requests that no route accepted, with the error of a guard or of the status.
#[catch(default)]
fn any_error(status: Status, request: &Request<'_>) -> ApiError {
    if let Some(error) = guard::take_guard_error(request) {
        return error;
    }
    match (status.code, rules::methods_served(request)) {
        (404, Some(allow)) => ApiError::method_not_allowed(allow),
        _ => ApiError::of_status(status),
    }
}

/// Answers a preflight on any path. The fairing [`cors::Cors`] adds the headers.
#[options("/<_path..>")]
fn preflight(_path: PathBuf, _app: &State<AppState>) -> (Status, (ContentType, &'static str)) {
    (Status::NoContent, (ContentType::Plain, ""))
}
