//! `/api/v1/calls/{id}/transcript`: the turns of a call in several formats.

use callscope_common::api::{CallView, TranscriptSource, TranscriptView, TurnView};
use callscope_common::elevenlabs::{self, ProviderTurn};
use callscope_common::protocol::ServerMessage;
use callscope_common::transcript::Transcript;
use callscope_common::{CallId, ErrorCode, Timestamp, export};
use rocket::http::{ContentType, Status};
use rocket::{Route, State, get, routes};
use serde_json::value::RawValue;

use super::large_responses::BufferedResponse;
use super::query::Query;
use super::scope::find_call;
use super::{AppState, Json, Viewer};
use crate::http::error::ApiError;
use crate::store::Store;
use crate::store::events::Page;

/// How many events are read from the store at a time.
const PAGE: Page = Page { rows: 512, bytes: 1 << 20 };
/// Maximum number of bytes of all turns' texts together.
const MAX_TEXT_BYTES: usize = 64 << 20;

pub(super) fn routes() -> Vec<Route> {
    routes![transcript]
}

#[get("/<id>/transcript")]
async fn transcript(
    id: &str,
    query: Query<'_>,
    viewer: Viewer,
    app: &State<AppState>,
) -> Result<BufferedResponse, ApiError> {
    query.check_parameters(&["format", "source"])?;
    let utf8 = |top, sub| ContentType::new(top, sub).with_params(("charset", "utf-8"));
    let format = query.get("format").unwrap_or("json");
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
        let view = transcript_view(app, &call, query.get("source").unwrap_or("auto")).await?;
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
    let unknown = |_| ApiError::bad_request("`source` is unknown").details("one of auto, live, final");
    let source = Some(source).filter(|source| *source != "auto").map(str::parse).transpose().map_err(unknown)?;
    let provider = match source {
        Some(TranscriptSource::Live) => None,
        _ => app.store.provider_transcript(call.call_id).await?,
    };
    let (source, turns) = match provider {
        Some(json) if source == Some(TranscriptSource::Final) || call.turns == 0 => {
            let turns = RawValue::from_string(json).map(|raw| elevenlabs::turns(&raw)).unwrap_or_default();
            (TranscriptSource::Final, provider_turns(call, turns))
        }
        None if source == Some(TranscriptSource::Final) => {
            let message = "the provider sent no transcript of this call";
            return Err(ApiError::new(Status::NotFound, ErrorCode::NoTranscript, message));
        }
        _ => (TranscriptSource::Live, live_turns(&app.store, call.call_id).await?),
    };
    Ok(TranscriptView {
        call_id: call.call_id,
        call_sid: call.call_sid.clone(),
        conversation_id: call.conversation_id.clone(),
        status: call.status,
        source: source.into(),
        turns,
    })
}

async fn live_turns(store: &Store, call_id: CallId) -> Result<Vec<TurnView>, ApiError> {
    let mut transcript = Transcript::default();
    let mut text_bytes = 0;
    loop {
        let page = store.events_in_pool(call_id, transcript.seq, PAGE).await?;
        if page.is_empty() {
            break;
        }
        for event in page {
            let message =
                ServerMessage::parse(&event.frame).map_err(|_| ApiError::of_status(Status::InternalServerError))?;
            if let ServerMessage::Transcription(turn) = &message {
                text_bytes += turn.message_text.len();
            }
            transcript.apply(&message);
        }
        if text_bytes > MAX_TEXT_BYTES {
            let message = "the transcript is longer than 64 MiB";
            return Err(ApiError::new(Status::PayloadTooLarge, ErrorCode::TranscriptTooLarge, message)
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
