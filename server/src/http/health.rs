//! `GET /healthz` and `GET /readyz`.

use callscope_common::api::{Health, ReadinessChecks, ReadinessView};
use rocket::http::Status;
use rocket::{State, get};

use super::error::ApiError;
use super::{AppState, Json};
use crate::readiness::{CheckFailure, ReadinessReport};

/// Answers whenever the process is alive.
#[get("/healthz")]
pub(super) fn healthz() -> Result<Json, ApiError> {
    Json::of(&Health { status: "ok".into(), version: env!("CARGO_PKG_VERSION").into() })
}

/// Answers 200 if the process can do its work, else 503 with the check that failed.
#[get("/readyz")]
pub(super) async fn readyz(app: &State<AppState>) -> Result<(Status, Json), ApiError> {
    let report = app.readiness.check().await;
    let (status, text) = match report.is_ready() {
        true => (Status::Ok, "ready"),
        false => (Status::ServiceUnavailable, "not ready"),
    };
    let view = ReadinessView { checks: checks(&report), node: app.cluster.node().into(), status: text.into() };
    Ok((status, Json::of(&view)?))
}

fn checks(report: &ReadinessReport) -> ReadinessChecks {
    let text = |check: Result<(), CheckFailure>| check.map_or_else(|failure| failure.to_string(), |()| "ok".to_owned());
    ReadinessChecks {
        append: text(report.append),
        database: text(report.database),
        deliver: text(report.deliver),
        draining: text(report.serving),
        redis: report.is_linked.map(|is_up| if is_up { "ok" } else { "down; reconciliation delivers" }.to_owned()),
        write_queue: text(report.write_queue),
    }
}
