//! The request log: one line for each request that failed or deleted something, and for each other request if `debug`
//! is enabled.

use std::time::Instant;

use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::Header;
use rocket::{Data, Request, Response};
use tracing::{Level, debug, enabled, field, info, warn};
use uuid::Uuid;

use super::rules;
use crate::telemetry::{line, refusals};

/// Logs each request with an id, which the response carries as `X-Request-Id`.
pub struct RequestLog;

#[derive(Clone, Copy)]
struct RequestStart {
    at: Instant,
    id: Uuid,
}

#[rocket::async_trait]
impl Fairing for RequestLog {
    fn info(&self) -> Info {
        Info { name: "request log", kind: Kind::Request | Kind::Response }
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        request.local_cache(|| Some(RequestStart { at: Instant::now(), id: Uuid::new_v4() }));
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let Some(start) = request.local_cache(|| None::<RequestStart>) else { return };
        response.set_header(Header::new("X-Request-Id", start.id.to_string()));
        let status = response.status().code;
        let is_routine = status < 400 && request.method() != rocket::http::Method::Delete;
        if is_routine && !enabled!(Level::DEBUG) {
            return;
        }
        // Strangers choose paths, so `Debug` escapes them. Queries may contain tokens and are left out.
        let ((method, path), micros) = (rules::original_target(request), start.at.elapsed().as_micros());
        let path = line::shorten_path(path);
        if status >= 400
            && !refusals::may_log(|| format!("{status} {method} {:?}", path.chars().take(64).collect::<String>()))
        {
            return;
        }
        let remote = request.remote().map(field::display);
        match status {
            500.. => warn!(id = %start.id, %method, ?path, status, micros, remote, "request"),
            _ if is_routine => debug!(id = %start.id, %method, ?path, status, micros, remote, "request"),
            _ => info!(id = %start.id, %method, ?path, status, micros, remote, "request"),
        }
    }
}
