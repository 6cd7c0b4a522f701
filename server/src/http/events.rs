//! `/api/v1/calls/{id}/events` and `…/audio`: the log of a call, and its recording.

use std::io;

use bytes::Bytes;
use callscope_common::protocol::SubscribeFrom;
use callscope_common::{CallId, ErrorCode, Seq};
use rocket::http::Status;
use rocket::{Route, State, get, routes};
use uuid::Uuid;

use super::audio::{RangeHeaders, RecordingResponse};
use super::large_responses::{PIECE_BYTES, StreamedBody, StreamedJson};
use super::query::{Query, number};
use super::scope::{find_call, parse_identifier};
use super::{AppState, Viewer};
use crate::http::error::ApiError;
use crate::store::Store;
use crate::store::events::Page;

const DEFAULT_LIMIT: i64 = 500;
const MAX_LIMIT: i64 = 5_000;

pub(super) fn routes() -> Vec<Route> {
    routes![events, audio]
}

#[get("/<id>/events")]
async fn events(id: &str, query: Query<'_>, viewer: Viewer, app: &State<AppState>) -> Result<StreamedJson, ApiError> {
    query.check_parameters(&["after", "limit", "call_id"])?;
    let limit = number("limit", query.get("limit"), 1, MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
    let record = query.get("call_id").map(Uuid::parse_str).transpose();
    let record = record.map_err(|_| ApiError::bad_request("`call_id` is not a UUID"))?;
    let from = parse_after(query.get("after"))?;
    let call = find_call(app, &viewer.0, id).await?;
    // The identifier is resolved again, because the result also tells whether a merge moved it to this call.
    let info = app.store.resolve(&parse_identifier(id)?).await?.filter(|info| info.call_id == call.call_id);
    let info = info.ok_or_else(ApiError::no_call)?;
    let begin = app.store.start_seq(&info, &from, record).await?;
    let begin =
        begin.map_err(|invalid| ApiError::new(Status::BadRequest, ErrorCode::CursorInvalid, invalid.to_string()))?;
    // `head` is sent with the events, so no event beyond it is sent.
    let end = info.head.min(begin.saturating_add(limit));
    Ok(StreamedJson(event_list(app.store.clone(), info.call_id, (begin, end), info.head)))
}

/// Parses the parameter `after`: a cursor, which contains a dot, or a seq.
fn parse_after(after: Option<&str>) -> Result<SubscribeFrom, ApiError> {
    match after {
        Some(text) if text.contains('.') => Ok(SubscribeFrom::Behind(text.to_owned())),
        after => Ok(SubscribeFrom::After(number("after", after, 0, i64::MAX)?.unwrap_or(0))),
    }
}

/// Streams `{"events":[…],"head":…}` with the events after `from` up to `end`. They are read while they are sent.
fn event_list(store: Store, call_id: CallId, (from, end): (Seq, Seq), head: Seq) -> StreamedBody {
    let opening = Some("{\"events\":[");
    StreamedBody::new(futures_util::stream::try_unfold((from, opening, false), move |(after, opening, is_complete)| {
        let store = store.clone();
        async move {
            if is_complete {
                return Ok::<_, io::Error>(None);
            }
            let mut piece = opening.unwrap_or_default().to_owned();
            let page = Page { rows: end - after, bytes: PIECE_BYTES };
            let events = if after < end {
                store.events_in_pool(call_id, after, page).await.map_err(io::Error::other)?
            } else {
                Vec::new()
            };
            // This is also so if the log was deleted or merged meanwhile.
            let is_complete = events.is_empty();
            let mut last = after;
            for event in events {
                if last != from {
                    piece.push(',');
                }
                piece.push_str(&event.frame);
                last = event.seq;
            }
            if is_complete {
                piece.push_str(&format!("],\"head\":{head}}}"));
            }
            Ok(Some((Bytes::from(piece), (last, None, is_complete))))
        }
    }))
}

#[get("/<id>/audio")]
async fn audio(
    id: &str,
    viewer: Viewer,
    range: RangeHeaders,
    app: &State<AppState>,
) -> Result<RecordingResponse, ApiError> {
    let call = find_call(app, &viewer.0, id).await?;
    match app.store.recording(call.call_id).await? {
        Some(recording) => Ok(RecordingResponse { store: app.store.clone(), recording, range }),
        None => Err(ApiError::new(Status::NotFound, ErrorCode::NoAudio, "no recording of this call was received")),
    }
}
