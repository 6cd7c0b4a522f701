//! `/api/v1/calls/{id}/events` and `…/audio`: the log of a call, and its recording.

use std::io;

use bytes::Bytes;
use callscope_common::api::{CallView, TranscriptView, TurnView};
use callscope_common::elevenlabs::{self, ProviderTurn};
use callscope_common::protocol::{ServerMessage, SubscribeFrom};
use callscope_common::transcript::Transcript;
use callscope_common::{CallId, Seq, Timestamp, export};
use rocket::http::uri::Origin;
use rocket::http::{ContentType, Status};
use rocket::{Route, State, get, routes};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::audio::{RangeHeaders, RecordingResponse};
use super::large_responses::{BufferedResponse, PIECE, StreamedBody, StreamedJson};
use super::query::{known_only, number};
use super::scope::{find_call, parse_identifier};
use super::{AppState, Json, Viewer};
use crate::http::error::ApiError;
use crate::store::Store;
use crate::store::events::Page;

const EVENTS: i64 = 500;
const MAX_EVENTS: i64 = 5_000;
/// Events read at once for a transcript.
const READ: Page = Page { rows: 512, bytes: 1 << 20 };
/// Longest transcript that is answered, in bytes of its turns' text.
const MAX_TRANSCRIPT: usize = 64 << 20;

pub(super) fn routes() -> Vec<Route> {
    routes![transcript, events, audio]
}

#[get("/<id>/transcript?<format>&<source>")]
async fn transcript(
    id: &str,
    format: Option<&str>,
    source: Option<&str>,
    viewer: Viewer,
    uri: &Origin<'_>,
    app: &State<AppState>,
) -> Result<BufferedResponse, ApiError> {
    known_only(uri, &["format", "source"])?;
    let utf8 = |top, sub| ContentType::new(top, sub).with_params(("charset", "utf-8"));
    let format = format.unwrap_or("json");
    let content_type = match format {
        "json" => ContentType::JSON,
        "txt" => ContentType::Plain,
        "md" => utf8("text", "markdown"),
        "srt" => utf8("application", "x-subrip"),
        "vtt" => utf8("text", "vtt"),
        _ => return Err(ApiError::bad_request("`format` is unknown").details("one of json, txt, md, srt, vtt")),
    };
    let call = find_call(app, &viewer.0, id).await?;
    let build = async {
        let view = transcript_view(app, &call, source.unwrap_or("auto")).await?;
        Ok(match format {
            "txt" => export::txt(&view),
            "md" => export::md(&view, &call),
            "srt" => export::srt(&view),
            "vtt" => export::vtt(&view),
            _ => Json::of(&view)?.0,
        })
    };
    app.response_memory.buffered(content_type, build).await
}

async fn transcript_view(app: &AppState, call: &CallView, source: &str) -> Result<TranscriptView, ApiError> {
    let provider = match source {
        "live" => None,
        "auto" | "final" => app.store.provider_transcript(call.call_id).await?,
        _ => return Err(ApiError::bad_request("`source` is unknown").details("one of auto, live, final")),
    };
    let (source, turns) = match provider {
        Some(json) if source == "final" || call.turns == 0 => {
            let turns = RawValue::from_string(json).map(|raw| elevenlabs::turns(&raw)).unwrap_or_default();
            ("final", provider_turns(call, turns))
        }
        None if source == "final" => {
            let message = "the provider sent no transcript of this call";
            return Err(ApiError::new(Status::NotFound, "NO_TRANSCRIPT", message));
        }
        _ => ("live", live_turns(&app.store, call.call_id).await?),
    };
    Ok(TranscriptView {
        call_id: call.call_id,
        call_sid: call.call_sid.clone(),
        conversation_id: call.conversation_id.clone(),
        status: call.status,
        source: source.to_owned(),
        turns,
    })
}

async fn live_turns(store: &Store, call_id: CallId) -> Result<Vec<TurnView>, ApiError> {
    let mut transcript = Transcript::default();
    let mut length = 0;
    loop {
        let page = store.events_in_pool(call_id, transcript.seq, READ).await?;
        if page.is_empty() {
            break;
        }
        for event in page {
            let message =
                ServerMessage::parse(&event.frame).map_err(|_| ApiError::of_status(Status::InternalServerError))?;
            if let ServerMessage::Transcription(turn) = &message {
                length += turn.message_text.len();
            }
            transcript.apply(&message);
        }
        if length > MAX_TRANSCRIPT {
            let message = "the transcript is longer than 64 MiB";
            return Err(ApiError::new(Status::PayloadTooLarge, "TRANSCRIPT_TOO_LARGE", message)
                .details("GET …/events reads it page by page"));
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

fn provider_turns(call: &CallView, turns: Vec<ProviderTurn>) -> Vec<TurnView> {
    let start = call.call_data.as_ref().and_then(|data| data.call_start_time);
    #[allow(clippy::cast_possible_truncation)]
    let at = |secs: f64| start.map(|start: Timestamp| start.plus_secs(secs as i64));
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

#[get("/<id>/events?<after>&<limit>&<call_id>")]
async fn events(
    id: &str,
    after: Option<&str>,
    limit: Option<&str>,
    call_id: Option<&str>,
    viewer: Viewer,
    uri: &Origin<'_>,
    app: &State<AppState>,
) -> Result<StreamedJson, ApiError> {
    known_only(uri, &["after", "limit", "call_id"])?;
    let limit = number("limit", limit, 1, MAX_EVENTS)?.unwrap_or(EVENTS);
    let record = call_id.map(Uuid::parse_str).transpose();
    let record = record.map_err(|_| ApiError::bad_request("`call_id` is no call_id"))?;
    let from = parse_after(after)?;
    let call = find_call(app, &viewer.0, id).await?;
    // The call is resolved by its identifier again, because this tells whether a merge moved the identifier.
    let info = app.store.resolve(&parse_identifier(id)?).await?.filter(|info| info.call_id == call.call_id);
    let info = info.ok_or_else(ApiError::no_call)?;
    let begin = app.store.start_seq(&info, &from, record).await?;
    let begin = begin.map_err(|invalid| ApiError::new(Status::BadRequest, "CURSOR_INVALID", invalid.to_string()))?;
    // The events end at the head that is sent with them.
    let end = info.head.min(begin.saturating_add(limit));
    Ok(StreamedJson(event_list(app.store.clone(), info.call_id, (begin, end), info.head)))
}

/// Reads `after` of a query: a cursor or a seq.
fn parse_after(after: Option<&str>) -> Result<SubscribeFrom, ApiError> {
    match after {
        Some(text) if text.contains('.') => Ok(SubscribeFrom::Behind(text.to_owned())),
        after => Ok(SubscribeFrom::After(number("after", after, 0, i64::MAX)?.unwrap_or(0))),
    }
}

/// Streams `{"events":[…],"head":…}` with the events behind `from` up to `end`, which are read while they are sent.
fn event_list(store: Store, call_id: CallId, (from, end): (Seq, Seq), head: Seq) -> StreamedBody {
    let opening = Some("{\"events\":[");
    StreamedBody::new(futures_util::stream::try_unfold((from, opening, false), move |(at, opening, is_over)| {
        let store = store.clone();
        async move {
            if is_over {
                return Ok::<_, io::Error>(None);
            }
            let mut piece = opening.unwrap_or_default().to_owned();
            let page = Page { rows: end - at, bytes: PIECE };
            let events = if at < end {
                store.events_in_pool(call_id, at, page).await.map_err(io::Error::other)?
            } else {
                Vec::new()
            };
            // If the log was deleted or merged meanwhile, it ends here.
            let is_over = events.is_empty();
            let mut last = at;
            for event in events {
                if last != from {
                    piece.push(',');
                }
                piece.push_str(&event.frame);
                last = event.seq;
            }
            if is_over {
                piece.push_str(&format!("],\"head\":{head}}}"));
            }
            Ok(Some((Bytes::from(piece), (last, None, is_over))))
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
        None => Err(ApiError::new(Status::NotFound, "NO_AUDIO", "no recording of this call was received")),
    }
}
