//! `GET /healthz`, `GET /readyz`

use std::time::Duration;

use rocket::http::Status;
use rocket::tokio::time::timeout;
use rocket::{State, get};
use serde_json::json;

use super::{App, Json};

/// For the database to answer.
const PING_DEADLINE: Duration = Duration::from_secs(2);

/// The process is alive.
#[get("/healthz")]
pub(super) fn healthz() -> Json {
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}).to_string())
}

/// The process can do its work: 200, or 503 with the check that failed.
#[get("/readyz")]
pub(super) async fn readyz(app: &State<App>) -> (Status, Json) {
    let database = matches!(timeout(PING_DEADLINE, app.store.ping()).await, Ok(Ok(())));
    let (waiting, room) = app.appender.load();
    let queue = waiting < room * 9 / 10;
    let serving = !app.hub.is_draining();
    let word = |good: bool, bad: &'static str| if good { "ok" } else { bad };
    let checks = json!({
        "database": word(database, "no answer"),
        "write_queue": word(queue, "nearly full"),
        "draining": word(serving, "the server is shutting down"),
    });
    let ready = database && queue && serving;
    let body = json!({"status": if ready { "ready" } else { "not ready" }, "checks": checks});
    (if ready { Status::Ok } else { Status::ServiceUnavailable }, Json(body.to_string()))
}
