//! `/api/v1/calls`

use std::time::{Duration, SystemTime};

use callscope_common::api::{CallList, CallPatch, CallView, EventList, NewCall, TranscriptView, TurnView};
use callscope_common::elevenlabs::{self, ProviderTurn};
use callscope_common::protocol::ServerMessage;
use callscope_common::transcript::Transcript;
use callscope_common::{CallId, Identifier, Timestamp, export, id};
use rocket::data::{Data, ToByteUnit};
use rocket::http::{ContentType, Status};
use rocket::tokio::time::timeout;
use rocket::{Route, State, delete, get, patch, post, routes};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::audio::{Range, Recording};
use super::query::{number, plain, time};
use super::{Admin, App, Json, Viewer};
use crate::auth::Identity;
use crate::error::ApiError;
use crate::store::calls::CallFilter;
use crate::store::ledger::{Op, Outcome, Patch, Refusal, Register, new_id};

/// Longest JSON body, in bytes.
const MAX_BODY: u64 = 1 << 20;
/// For a body to arrive whole.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
const PAGE: i64 = 50;
const MAX_PAGE: i64 = 500;
const EVENTS: i64 = 500;
const MAX_EVENTS: i64 = 5_000;

pub(super) fn routes() -> Vec<Route> {
    routes![register, list, show, change, remove, transcript, events, audio]
}

#[post("/", data = "<data>")]
async fn register(data: Data<'_>, admin: Admin, app: &State<App>) -> Result<(Status, Json), ApiError> {
    let call: NewCall = body(data).await?;
    check_subject(call.subject.as_deref())?;
    for identifier in call.call_sid.iter().chain(&call.conversation_id) {
        allow(&admin.0, identifier, None)?;
    }
    let at = Timestamp::from_system_time(SystemTime::now());
    let call_id = new_id(at);
    done(app.appender.submit(Op::Register(Box::new(Register { call_id, at, call }))).await?)?;
    Ok((Status::Created, Json::of(&call_view(app, call_id).await?)?))
}

#[get("/?<status>&<agent_id>&<q>&<since>&<limit>&<cursor>")]
#[allow(clippy::too_many_arguments)]
async fn list(
    status: Option<&str>,
    agent_id: Option<&str>,
    q: Option<&str>,
    since: Option<&str>,
    limit: Option<&str>,
    cursor: Option<&str>,
    viewer: Viewer,
    app: &State<App>,
) -> Result<Json, ApiError> {
    let limit = number("limit", limit, 1, MAX_PAGE)?.unwrap_or(PAGE);
    let filter = CallFilter {
        status: status.map(str::parse).transpose().map_err(|error: callscope_common::call::UnknownStatus| {
            ApiError::bad_request("`status` is unknown").details(error.to_string())
        })?,
        agent_id: plain("agent_id", agent_id)?,
        q: plain("q", q)?.filter(|q| !q.is_empty()),
        since: since.map(time).transpose()?,
        before: super::query::cursor(cursor)?,
        limit: limit + 1,
    };
    let mut calls = app.store.calls(&filter).await?;
    let has_more = i64::try_from(calls.len()).unwrap_or(0) > limit;
    calls.truncate(usize::try_from(limit).unwrap_or(0));
    let next_cursor = calls.last().filter(|_| has_more).map(|call| call.call_id.to_string());
    if let Some(allowed) = &viewer.0.calls {
        let is_allowed = |call: &CallView| allowed.iter().any(|name| names(call).any(|known| known == name.as_str()));
        calls.retain(is_allowed);
    }
    Json::of(&CallList { calls, next_cursor })
}

#[get("/<id>")]
async fn show(id: &str, viewer: Viewer, app: &State<App>) -> Result<Json, ApiError> {
    Json::of(&find(app, &viewer.0, id).await?)
}

#[patch("/<id>", data = "<data>")]
async fn change(id: &str, data: Data<'_>, admin: Admin, app: &State<App>) -> Result<Json, ApiError> {
    let call = find(app, &admin.0, id).await?;
    let patch: CallPatch = body(data).await?;
    if let Some(subject) = &patch.subject {
        check_subject(Some(subject))?;
    }
    for given in patch.call_sid.iter().chain(&patch.conversation_id).chain(&patch.identifiers) {
        // A merge would hand over the other call: the token must allow that one too.
        if admin.0.calls.is_some() {
            allow(&admin.0, given, app.store.call(given).await?.as_ref())?;
        }
    }
    let id = identifier(&call.call_id.to_string())?;
    let outcome = app.appender.submit(Op::Patch(Box::new(Patch { id, patch }))).await?;
    let call_id = done(outcome)?;
    Json::of(&call_view(app, call_id).await?)
}

#[delete("/<id>")]
async fn remove(id: &str, admin: Admin, app: &State<App>) -> Result<Status, ApiError> {
    let call = find(app, &admin.0, id).await?;
    done(app.appender.submit(Op::Delete(identifier(&call.call_id.to_string())?)).await?)?;
    Ok(Status::NoContent)
}

#[get("/<id>/transcript?<format>&<source>")]
async fn transcript(
    id: &str,
    format: Option<&str>,
    source: Option<&str>,
    viewer: Viewer,
    app: &State<App>,
) -> Result<(ContentType, String), ApiError> {
    let call = find(app, &viewer.0, id).await?;
    let provider = app.store.provider_transcript(call.call_id).await?;
    let final_turns = |json: String| RawValue::from_string(json).map(|raw| elevenlabs::turns(&raw)).unwrap_or_default();
    let (source, turns) = match source.unwrap_or("auto") {
        "live" => ("live", live_turns(app, call.call_id).await?),
        "auto" if call.turns > 0 || provider.is_none() => ("live", live_turns(app, call.call_id).await?),
        "auto" | "final" => match provider {
            Some(json) => ("final", said(&call, final_turns(json))),
            None => {
                return Err(ApiError::new(
                    Status::NotFound,
                    "NO_TRANSCRIPT",
                    "the provider sent no transcript of this call",
                ));
            }
        },
        _ => return Err(ApiError::bad_request("`source` is unknown").details("one of auto, live, final")),
    };
    let view = TranscriptView {
        call_id: call.call_id,
        call_sid: call.call_sid.clone(),
        conversation_id: call.conversation_id.clone(),
        status: call.status,
        source: source.to_owned(),
        turns,
    };
    let utf8 = |top, sub| ContentType::new(top, sub).with_params(("charset", "utf-8"));
    match format.unwrap_or("json") {
        "json" => Ok((ContentType::JSON, Json::of(&view)?.0)),
        "txt" => Ok((ContentType::Plain, export::txt(&view))),
        "md" => Ok((utf8("text", "markdown"), export::md(&view, &call))),
        "srt" => Ok((utf8("application", "x-subrip"), export::srt(&view))),
        "vtt" => Ok((utf8("text", "vtt"), export::vtt(&view))),
        _ => Err(ApiError::bad_request("`format` is unknown").details("one of json, txt, md, srt, vtt")),
    }
}

async fn live_turns(app: &App, call_id: CallId) -> Result<Vec<TurnView>, ApiError> {
    let mut transcript = Transcript::default();
    loop {
        let page = app.store.events(call_id, transcript.seq, 1_000).await?;
        if page.is_empty() {
            break;
        }
        for event in page {
            let message =
                ServerMessage::parse(&event.frame).map_err(|_| ApiError::of_status(Status::InternalServerError))?;
            transcript.apply(&message);
        }
    }
    let start = transcript.start();
    let turns = transcript.turns.into_iter().map(|turn| TurnView {
        sequence_number: turn.number,
        speaker_type: turn.speaker,
        timestamp: Some(turn.at),
        offset_seconds: start.map_or(0.0, |start| turn.at.secs_since(start).max(0.0)),
        seq: Some(turn.seq),
        message_text: turn.text,
    });
    Ok(turns.collect())
}

fn said(call: &CallView, turns: Vec<ProviderTurn>) -> Vec<TurnView> {
    let start = call.call_data.as_ref().and_then(|data| data.call_start_time);
    #[allow(clippy::cast_possible_truncation)]
    let at = |secs: f64| start.map(|start| start.plus_secs(secs as i64));
    let numbered = (1..).zip(turns).map(|(number, turn)| TurnView {
        sequence_number: number,
        speaker_type: turn.speaker,
        timestamp: at(turn.offset_secs),
        offset_seconds: turn.offset_secs,
        seq: None,
        message_text: turn.text,
    });
    numbered.collect()
}

#[get("/<id>/events?<after>&<limit>")]
async fn events(
    id: &str,
    after: Option<&str>,
    limit: Option<&str>,
    viewer: Viewer,
    app: &State<App>,
) -> Result<Json, ApiError> {
    let after = number("after", after, 0, i64::MAX)?.unwrap_or(0);
    let limit = number("limit", limit, 1, MAX_EVENTS)?.unwrap_or(EVENTS);
    let call = find(app, &viewer.0, id).await?;
    if after > call.seq {
        let message = format!("the cursor {after} lies beyond the head {}", call.seq);
        return Err(ApiError::new(Status::BadRequest, "CURSOR_INVALID", message));
    }
    let events = app.store.events(call.call_id, after, limit).await?;
    let events: Result<Vec<_>, _> = events.into_iter().map(|event| RawValue::from_string(event.frame)).collect();
    Json::of(&EventList {
        events: events.map_err(|_| ApiError::of_status(Status::InternalServerError))?,
        head: call.seq,
    })
}

#[get("/<id>/audio")]
async fn audio(id: &str, viewer: Viewer, range: Range, app: &State<App>) -> Result<Recording, ApiError> {
    let call = find(app, &viewer.0, id).await?;
    match app.store.audio(call.call_id).await? {
        Some((content_type, bytes)) => Ok(Recording { content_type, bytes, range }),
        None => Err(ApiError::new(Status::NotFound, "NO_AUDIO", "no recording of this call was received")),
    }
}

fn done(outcome: Outcome) -> Result<CallId, ApiError> {
    match outcome {
        Outcome::Done(call_id) => Ok(call_id),
        Outcome::Refused(Refusal::NotFound) => Err(ApiError::no_call()),
        Outcome::Refused(Refusal::IdentifierTaken(identifier)) => Err(ApiError::new(
            Status::Conflict,
            "IDENTIFIER_TAKEN",
            format!("another call has the identifier {identifier}"),
        )
        .details("PATCH with \"merge\": true makes both calls one")),
        Outcome::Refused(Refusal::Ended) => {
            Err(ApiError::new(Status::Conflict, "CALL_ENDED", "an ended call takes no status but completed or failed"))
        }
        Outcome::Answered(_) | Outcome::Noted => Err(ApiError::of_status(Status::InternalServerError)),
    }
}

async fn call_view(app: &App, call_id: CallId) -> Result<CallView, ApiError> {
    app.store.call(&identifier(&call_id.to_string())?).await?.ok_or_else(ApiError::no_call)
}

pub(super) fn identifier(text: &str) -> Result<Identifier, ApiError> {
    Identifier::parse(text).map_err(|error| ApiError::new(Status::BadRequest, "INVALID_IDENTIFIER", error.to_string()))
}

/// The call that `id` names, if the token allows it.
async fn find(app: &App, identity: &Identity, id: &str) -> Result<CallView, ApiError> {
    let id = identifier(id)?;
    let call = app.store.call(&id).await?;
    allow(identity, &id, call.as_ref())?;
    call.ok_or_else(ApiError::no_call)
}

fn allow(identity: &Identity, id: &Identifier, call: Option<&CallView>) -> Result<(), ApiError> {
    let by_another_name = |allowed: &Vec<Identifier>| {
        call.is_some_and(|call| allowed.iter().any(|name| names(call).any(|known| known == name.as_str())))
    };
    match &identity.calls {
        Some(allowed) if !identity.may_name(id) && !by_another_name(allowed) => {
            Err(ApiError::forbidden("the token does not allow this call"))
        }
        _ => Ok(()),
    }
}

fn names(call: &CallView) -> impl Iterator<Item = &str> {
    call.identifiers.iter().map(String::as_str)
}

fn check_subject(subject: Option<&str>) -> Result<(), ApiError> {
    match subject {
        Some(subject) if !id::is_subject(subject) => {
            Err(ApiError::bad_request("`subject` is not of the right form").details("1 to 64 of A-Z a-z 0-9 . _ -"))
        }
        _ => Ok(()),
    }
}

async fn body<T: DeserializeOwned>(data: Data<'_>) -> Result<T, ApiError> {
    let read = timeout(BODY_DEADLINE, data.open(MAX_BODY.bytes()).into_bytes()).await;
    let late = |_| ApiError::new(Status::RequestTimeout, "BODY_TIMEOUT", "the body did not arrive in time");
    let bytes = read.map_err(late)?.map_err(|_| ApiError::bad_request("the body broke off"))?;
    if !bytes.is_complete() {
        return Err(ApiError::of_status(Status::PayloadTooLarge));
    }
    let empty = bytes.iter().all(u8::is_ascii_whitespace);
    let bytes: &[u8] = if empty { b"{}" } else { &bytes };
    // serde would take an array for the fields in their order.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(ApiError::bad_request("the body is no JSON object").details("expected {…}"));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::bad_request("the body is not of the right form").details(error.to_string()))
}
