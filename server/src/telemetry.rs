//! Logs: structured, on stderr, without secrets and without query strings.

use std::time::Instant;

use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::Header;
use rocket::{Data, Request, Response};
use tracing::{Level, debug, enabled, info, warn};
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

/// Starts logging. `filter` is `tracing`'s syntax, `format` is `text` or `json`.
///
/// # Errors
/// The filter cannot be read, or logging was started before.
pub fn start(filter: &str, format: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        "json" => logs.json().flatten_event(true).try_init(),
        _ => logs.with_ansi(false).try_init(),
    };
    started.map_err(|error| error.to_string())
}

/// Logs each request with an id, which the response carries as `X-Request-Id`.
pub struct RequestLog;

#[derive(Clone, Copy)]
struct Began {
    at: Instant,
    id: Uuid,
}

#[rocket::async_trait]
impl Fairing for RequestLog {
    fn info(&self) -> Info {
        Info { name: "request log", kind: Kind::Request | Kind::Response }
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        request.local_cache(|| Some(Began { at: Instant::now(), id: Uuid::new_v4() }));
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let Some(began) = request.local_cache(|| None::<Began>) else { return };
        response.set_header(Header::new("X-Request-Id", began.id.to_string()));
        let status = response.status().code;
        let is_routine = status < 400 && request.method() != rocket::http::Method::Delete;
        if is_routine && !enabled!(Level::DEBUG) {
            return;
        }
        // Paths hold identifiers that strangers chose: Debug escapes them. Queries may hold tokens: left out.
        let (path, method, micros) = (request.uri().path().as_str(), request.method(), began.at.elapsed().as_micros());
        let remote = request.remote();
        match status {
            500.. => warn!(id = %began.id, %method, ?path, status, micros, ?remote, "request"),
            _ if is_routine => debug!(id = %began.id, %method, ?path, status, micros, ?remote, "request"),
            _ => info!(id = %began.id, %method, ?path, status, micros, ?remote, "request"),
        }
    }
}
