//! Responses with a recording, whole or in part (RFC 9110, section 14).

use std::io;

use bytes::Bytes;
use rocket::http::Status;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::response::{self, Responder, Response};

use super::large_responses::{PIECE_BYTES, StreamedBody};
use crate::store::Store;
use crate::store::recordings::Recording;

/// The `Range` and `If-Range` headers of a request.
pub(super) struct RangeHeaders {
    range: Option<String>,
    if_range: Option<String>,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for RangeHeaders {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        let header = |name| request.headers().get_one(name).map(str::to_owned);
        Outcome::Success(Self { range: header("Range"), if_range: header("If-Range") })
    }
}

impl RangeHeaders {
    /// Returns the requested range of a body with this entity tag. If `If-Range` names another body, the range is
    /// ignored (RFC 9110, section 13.1.5).
    fn range_of(&self, etag: &str) -> Option<&str> {
        let is_same_body = self.if_range.as_deref().is_none_or(|condition| condition.trim() == etag);
        self.range.as_deref().filter(|_| is_same_body)
    }
}

/// A recording that is read from the store chunk by chunk while it is sent.
pub(super) struct RecordingResponse {
    pub store: Store,
    pub recording: Recording,
    pub range: RangeHeaders,
}

/// The part of a body that is requested.
#[derive(Debug, PartialEq, Eq)]
enum RequestedRange {
    Whole,
    /// From the first to the last of these bytes, both included.
    Part(usize, usize),
    Unsatisfiable,
}

/// Parses a `Range` header. Several ranges, other units and malformed headers mean the whole body, as the RFC allows.
fn parse_range(range: Option<&str>, len: usize) -> RequestedRange {
    let Some((first, last)) =
        range.and_then(|range| range.trim().strip_prefix("bytes=")).and_then(|set| set.split_once('-'))
    else {
        return RequestedRange::Whole;
    };
    match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
        (Ok(first), _) if first >= len => RequestedRange::Unsatisfiable,
        (Ok(first), Ok(last)) if last >= first => RequestedRange::Part(first, last.min(len - 1)),
        (Ok(first), Err(_)) if last.trim().is_empty() => RequestedRange::Part(first, len - 1),
        (Err(_), Ok(0)) if first.trim().is_empty() => RequestedRange::Unsatisfiable,
        (Err(_), Ok(count)) if first.trim().is_empty() && len > 0 => {
            RequestedRange::Part(len.saturating_sub(count), len - 1)
        }
        _ => RequestedRange::Whole,
    }
}

impl<'r> Responder<'r, 'static> for RecordingResponse {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let Self { store, recording, range } = self;
        let len = usize::try_from(recording.length).unwrap_or(usize::MAX);
        let etag = format!("\"{:x}-{len:x}\"", recording.created_at.as_micros());
        let mut response = Response::build();
        response.raw_header("Accept-Ranges", "bytes").raw_header("Content-Type", recording.content_type.clone());
        response.raw_header("ETag", etag.clone()).max_chunk_size(PIECE_BYTES);
        match parse_range(range.range_of(&etag), len) {
            RequestedRange::Whole => response.sized_body(len, stream_bytes(store, recording, 0, len)),
            RequestedRange::Part(first, last) => response
                .status(Status::PartialContent)
                .raw_header("Content-Range", format!("bytes {first}-{last}/{len}"))
                .sized_body(last + 1 - first, stream_bytes(store, recording, first, last + 1)),
            RequestedRange::Unsatisfiable => {
                response.status(Status::RangeNotSatisfiable).raw_header("Content-Range", format!("bytes */{len}"))
            }
        };
        response.ok()
    }
}

/// Streams the bytes `from..end` of a recording.
fn stream_bytes(store: Store, recording: Recording, from: usize, end: usize) -> StreamedBody {
    StreamedBody::new(futures_util::stream::try_unfold(from, move |at| {
        let (store, recording) = (store.clone(), recording.clone());
        async move {
            if at >= end {
                return Ok(None);
            }
            let (number, skip) = recording.chunk_of(at as u64);
            let chunk = store.recording_chunk(&recording, number).await.map_err(io::Error::other)?;
            // If the recording was replaced or deleted meanwhile, the response breaks off instead of mixing two.
            let chunk = chunk.filter(|chunk| chunk.len() > skip).ok_or(io::ErrorKind::NotFound)?;
            let piece = Bytes::from(chunk).slice(skip..);
            let piece = piece.slice(..piece.len().min(end - at));
            let next = at + piece.len();
            Ok(Some((piece, next)))
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        for (range, expected) in [
            (None, RequestedRange::Whole),
            (Some("bytes=0-3"), RequestedRange::Part(0, 3)),
            (Some("bytes=4-"), RequestedRange::Part(4, 9)),
            (Some("bytes=-3"), RequestedRange::Part(7, 9)),
            (Some("bytes=-30"), RequestedRange::Part(0, 9)),
            (Some("bytes=2-99"), RequestedRange::Part(2, 9)),
            (Some("bytes=10-"), RequestedRange::Unsatisfiable),
            (Some("bytes=-0"), RequestedRange::Unsatisfiable),
            (Some("bytes=3-1"), RequestedRange::Whole),
            (Some("bytes=0-1,3-4"), RequestedRange::Whole),
            (Some("lines=1-2"), RequestedRange::Whole),
        ] {
            assert_eq!(parse_range(range, 10), expected, "{range:?}");
        }
        assert_eq!(parse_range(Some("bytes=0-"), 0), RequestedRange::Unsatisfiable);
    }
}
