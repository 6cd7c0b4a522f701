//! Logs: structured, on stderr, without secrets and without query strings.
//!
//! They never hold the service up ([`writer`]), a line is at most 2 KiB long (`line`), and what strangers cause is logged at a
//! bounded rate ([`refusals`]).

mod line;
pub mod refusals;
pub mod writer;

use std::time::Instant;

use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::Header;
use rocket::{Data, Request, Response};
use tracing::{Level, debug, enabled, error, info, warn};
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

use crate::http;

/// Starts logging. `filter` is `tracing`'s syntax, `format` is `text` or `json`.
///
/// # Errors
/// The filter cannot be read, or logging was started before.
pub fn start(filter: &str, format: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_writer(|| writer::Lines);
    writer::use_json(format == "json");
    let started = match format {
        "json" => logs.json().flatten_event(true).try_init(),
        _ => logs.with_ansi(false).try_init(),
    };
    started.map_err(|error| error.to_string())?;
    // A panic in a request's task is a line like any other: printed by the standard library, it would wait for the reader.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        error!(place, panic = ?panic.payload_as_str().unwrap_or_default(), "a panic");
    }));
    Ok(())
}

/// Says something on stderr outside the log, such as why the process ends, without ever waiting for its reader.
pub fn say(text: &str) {
    writer::write(line::bounded(text.as_bytes(), false));
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
        let ((method, path), micros) = (http::asked(request), began.at.elapsed().as_micros());
        let path = line::path(path);
        if status >= 400
            && !refusals::may_log(|| format!("{status} {method} {:?}", path.chars().take(64).collect::<String>()))
        {
            return;
        }
        let remote = request.remote();
        match status {
            500.. => warn!(id = %began.id, %method, ?path, status, micros, ?remote, "request"),
            _ if is_routine => debug!(id = %began.id, %method, ?path, status, micros, ?remote, "request"),
            _ => info!(id = %began.id, %method, ?path, status, micros, ?remote, "request"),
        }
    }
}
