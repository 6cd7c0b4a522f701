//! A recording, whole or in part (RFC 9110 section 14).

use std::io::Cursor;

use rocket::http::Status;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::response::{self, Responder, Response};

/// A `Range` header's value, if there is one.
pub(super) struct Range(Option<String>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Range {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        Outcome::Success(Self(request.headers().get_one("Range").map(str::to_owned)))
    }
}

pub(super) struct Recording {
    pub content_type: String,
    pub bytes: Vec<u8>,
    pub range: Range,
}

/// What part of a body is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// First and last byte.
    Some(usize, usize),
    Unsatisfiable,
}

/// Several ranges, other units and malformed headers are answered with the whole, as the RFC allows.
fn part(range: Option<&str>, len: usize) -> Part {
    let Some((first, last)) =
        range.and_then(|range| range.trim().strip_prefix("bytes=")).and_then(|set| set.split_once('-'))
    else {
        return Part::Whole;
    };
    match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
        (Ok(first), _) if first >= len => Part::Unsatisfiable,
        (Ok(first), Ok(last)) if last >= first => Part::Some(first, last.min(len - 1)),
        (Ok(first), Err(_)) if last.trim().is_empty() => Part::Some(first, len - 1),
        (Err(_), Ok(0)) if first.trim().is_empty() => Part::Unsatisfiable,
        (Err(_), Ok(count)) if first.trim().is_empty() && len > 0 => Part::Some(len.saturating_sub(count), len - 1),
        _ => Part::Whole,
    }
}

impl<'r> Responder<'r, 'static> for Recording {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let len = self.bytes.len();
        let mut response = Response::build();
        response.raw_header("Accept-Ranges", "bytes").raw_header("Content-Type", self.content_type);
        match part(self.range.0.as_deref(), len) {
            Part::Whole => response.sized_body(len, Cursor::new(self.bytes)),
            Part::Some(first, last) => {
                let bytes = self.bytes[first..=last].to_vec();
                response
                    .status(Status::PartialContent)
                    .raw_header("Content-Range", format!("bytes {first}-{last}/{len}"))
                    .sized_body(bytes.len(), Cursor::new(bytes))
            }
            Part::Unsatisfiable => {
                response.status(Status::RangeNotSatisfiable).raw_header("Content-Range", format!("bytes */{len}"))
            }
        };
        response.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        for (range, expected) in [
            (None, Part::Whole),
            (Some("bytes=0-3"), Part::Some(0, 3)),
            (Some("bytes=4-"), Part::Some(4, 9)),
            (Some("bytes=-3"), Part::Some(7, 9)),
            (Some("bytes=-30"), Part::Some(0, 9)),
            (Some("bytes=2-99"), Part::Some(2, 9)),
            (Some("bytes=10-"), Part::Unsatisfiable),
            (Some("bytes=-0"), Part::Unsatisfiable),
            (Some("bytes=3-1"), Part::Whole),
            (Some("bytes=0-1,3-4"), Part::Whole),
            (Some("lines=1-2"), Part::Whole),
        ] {
            assert_eq!(part(range, 10), expected, "{range:?}");
        }
        assert_eq!(part(Some("bytes=0-"), 0), Part::Unsatisfiable);
    }
}
