//! `/api/v1/calls`: registers, lists, shows, changes and deletes calls.

use std::time::Duration;

use callscope_common::api::{CallList, CallPatch, CallView, NewCall};
use callscope_common::{CallId, ErrorCode, UnknownText, id};
use rocket::data::{Data, ToByteUnit};
use rocket::http::Status;
use rocket::{Route, State, delete, get, patch, post, routes};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::query::{Query, cursor, number, text_without_nul, timestamp};
use super::scope::{check_scope, find_call, parse_identifier};
use super::{Admin, AppState, Json, Viewer};
use crate::clock;
use crate::http::error::ApiError;
use crate::log::{Delete, Operation, Outcome, Patch, Refusal, Register, new_id};
use crate::store::calls::{CallFilter, CallPage};

/// Maximum length of a JSON body.
const MAX_BODY_BYTES: u64 = 1 << 20;
/// Time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum length of a subject.
const MAX_SUBJECT_CHARS: usize = 200;
/// Length to which a parser's message is cut, because it may quote the body.
const MAX_PARSER_MESSAGE_CHARS: usize = 300;
const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 500;

pub(super) fn routes() -> Vec<Route> {
    routes![register, list, show, change, remove]
}

#[post("/", data = "<data>")]
async fn register(data: Data<'_>, admin: Admin, app: &State<AppState>) -> Result<(Status, Json), ApiError> {
    let call: NewCall = read_json(data).await?;
    check_subject(call.subject.as_deref(), call.call_sid.is_none())?;
    text_without_nul("agent_id", call.agent_id.as_deref())?;
    for identifier in call.call_sid.iter().chain(&call.conversation_id) {
        check_scope(&admin.0, identifier, None)?;
    }
    let at = clock::now();
    let call_id = new_id(at);
    changed_call(app.log_writer.submit(Operation::Register(Box::new(Register { call_id, at, call }))).await?)?;
    let call = call_view(app, call_id).await?;
    Ok((Status::Created, Json::of(&CallView { link: app.links.link_to(call_id), ..call })?))
}

#[get("/")]
async fn list(query: Query<'_>, viewer: Viewer, app: &State<AppState>) -> Result<Json, ApiError> {
    query.check_parameters(&["status", "agent_id", "q", "since", "limit", "cursor"])?;
    let among = match &viewer.0.calls {
        // The allowed calls are part of the query, so that each page is full. Filtering a page would show that there
        // are other calls.
        Some(allowed) => Some(app.store.calls_named(allowed).await?),
        None => None,
    };
    let filter =
        CallFilter {
            status: query.get("status").map(str::parse).transpose().map_err(|error: UnknownText| {
                ApiError::bad_request("`status` is unknown").details(error.to_string())
            })?,
            agent_id: text_without_nul("agent_id", query.get("agent_id"))?,
            q: text_without_nul("q", query.get("q"))?.filter(|q| !q.is_empty()),
            since: query.get("since").map(|text| timestamp("since", text)).transpose()?,
            before: cursor(query.get("cursor"))?,
            among,
            limit: number("limit", query.get("limit"), 1, MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT),
        };
    let CallPage { calls, has_more } = app.store.calls(&filter).await?;
    let next_cursor = calls.last().filter(|_| has_more).map(|call| call.call_id.to_string());
    Json::of(&CallList { calls, next_cursor })
}

#[get("/<id>")]
async fn show(id: &str, query: Query<'_>, viewer: Viewer, app: &State<AppState>) -> Result<Json, ApiError> {
    query.check_parameters(&[])?;
    Json::of(&find_call(app, &viewer.0, id).await?)
}

#[patch("/<id>", data = "<data>")]
async fn change(id: &str, data: Data<'_>, admin: Admin, app: &State<AppState>) -> Result<Json, ApiError> {
    let call = find_call(app, &admin.0, id).await?;
    let patch: CallPatch = read_json(data).await?;
    check_subject(patch.subject.as_deref(), false)?;
    text_without_nul("agent_id", patch.agent_id.as_deref())?;
    for identifier in patch.call_sid.iter().chain(&patch.conversation_id).chain(&patch.identifiers) {
        // The identifier may belong to another call. A merge would give access to it, so the token must allow it, too.
        if admin.0.calls.is_some() {
            check_scope(&admin.0, identifier, app.store.call(identifier).await?.as_ref())?;
        }
    }
    let id = parse_identifier(&call.call_id.to_string())?;
    let outcome = app.log_writer.submit(Operation::Patch(Box::new(Patch { id, patch }))).await?;
    let call_id = changed_call(outcome)?;
    Json::of(&call_view(app, call_id).await?)
}

#[delete("/<id>")]
async fn remove(id: &str, admin: Admin, app: &State<AppState>) -> Result<Status, ApiError> {
    let call = find_call(app, &admin.0, id).await?;
    // A `call_id` means this record, even if another record has absorbed it.
    let record = parse_identifier(id)?.as_call_id();
    let call_id = match record {
        Some(record) if !call.identifiers.iter().any(|known| known == id) => record,
        _ => call.call_id,
    };
    changed_call(app.log_writer.submit(Operation::Delete(Delete { call_id, ended_before: None })).await?)?;
    Ok(Status::NoContent)
}

/// Returns the id of the changed call, or the error for a refused change.
fn changed_call(outcome: Outcome) -> Result<CallId, ApiError> {
    let refusal = match outcome {
        Outcome::Done(call_id) => return Ok(call_id),
        Outcome::Answered(_) => return Err(ApiError::of_status(Status::InternalServerError)),
        Outcome::Refused(refusal) => refusal,
    };
    let conflict = |code, message: &str| ApiError::new(Status::Conflict, code, message);
    Err(match refusal {
        Refusal::NotFound => ApiError::no_call(),
        Refusal::IdentifierTaken(identifier) => {
            conflict(ErrorCode::IdentifierTaken, &format!("another call has the identifier {identifier}"))
                .details("PATCH with \"merge\": true makes both calls one")
        }
        Refusal::Ended => conflict(ErrorCode::CallEnded, "an ended call takes no status but completed or failed"),
        Refusal::Absorbed(survivor) => {
            let message = format!("this record was merged into the call {survivor}, which was not changed");
            conflict(ErrorCode::CallMerged, &message)
                .details(format!("DELETE /api/v1/calls/{survivor} deletes that call"))
        }
        Refusal::Changed => conflict(ErrorCode::CallChanged, "the call has changed; nothing was done"),
    })
}

async fn call_view(app: &AppState, call_id: CallId) -> Result<CallView, ApiError> {
    app.store.call(&parse_identifier(&call_id.to_string())?).await?.ok_or_else(ApiError::no_call)
}

/// Checks a subject. `is_in_sid` says whether it becomes a part of a generated `call_sid`.
fn check_subject(subject: Option<&str>, is_in_sid: bool) -> Result<(), ApiError> {
    let Some(subject) = subject else { return Ok(()) };
    text_without_nul("subject", Some(subject))?;
    let length = subject.chars().count();
    if length == 0 || length > MAX_SUBJECT_CHARS {
        return Err(ApiError::bad_request("`subject` is not of the right length").details("1 to 200 characters"));
    }
    if is_in_sid && !id::is_subject(subject) {
        return Err(ApiError::bad_request("`subject` cannot be a part of a call_sid").details(
            "without a `call_sid` the subject becomes a part of the generated one: 1 to 64 of A-Z a-z 0-9 . _ -",
        ));
    }
    Ok(())
}

async fn read_json<T: DeserializeOwned>(data: Data<'_>) -> Result<T, ApiError> {
    let read = timeout(BODY_TIMEOUT, data.open(MAX_BODY_BYTES.bytes()).into_bytes()).await;
    let timed_out =
        |_| ApiError::new(Status::RequestTimeout, ErrorCode::BodyTimeout, "the body did not arrive in time");
    let bytes = read.map_err(timed_out)?.map_err(|_| ApiError::bad_request("the body broke off"))?;
    if !bytes.is_complete() {
        return Err(ApiError::of_status(Status::PayloadTooLarge));
    }
    // Every field is optional, so an empty body counts as an empty object.
    let is_empty = bytes.iter().all(u8::is_ascii_whitespace);
    let bytes: &[u8] = if is_empty { b"{}" } else { &bytes };
    // Without this check, serde would accept an array of the fields' values.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(ApiError::bad_request("the body is not a JSON object").details("expected {…}"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let message: String = error.to_string().chars().take(MAX_PARSER_MESSAGE_CHARS).collect();
        ApiError::bad_request("the body has wrong fields").details(message)
    })
}
