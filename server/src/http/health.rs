//! `GET /healthz`, `GET /readyz`

use rocket::http::Status;
use rocket::{State, get};
use serde_json::json;

use super::{AppState, Json};

/// The process is alive.
#[get("/healthz")]
pub(super) fn healthz() -> Json {
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}).to_string())
}

/// The process can do its work: 200, or 503 with the check that failed.
#[get("/readyz")]
pub(super) async fn readyz(app: &State<AppState>) -> (Status, Json) {
    let report = app.readiness.check().await;
    let word = if report.is_ready { "ready" } else { "not ready" };
    let body = json!({"status": word, "checks": report.checks, "node": app.cluster.node()});
    (if report.is_ready { Status::Ok } else { Status::ServiceUnavailable }, Json(body.to_string()))
}
