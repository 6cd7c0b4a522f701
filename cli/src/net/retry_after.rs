//! Reads the header `Retry-After`.

use std::time::Duration;

use callscope_common::Timestamp;
use tokio_tungstenite::tungstenite::http::{HeaderMap, header};

use crate::clock;

/// Returns how long an answer asks to wait. The header holds seconds or an HTTP date; a date that is past means zero.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim(), clock::now())
}

fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(secs) = value.parse() {
        return Some(Duration::from_secs(secs));
    }
    let date = Timestamp::from_system_time(httpdate::parse_http_date(value).ok()?);
    // A negative time is an error.
    Some(Duration::try_from_secs_f64(date.secs_since(now)).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read() {
        let now = Timestamp::from_unix_secs(784_111_777).unwrap();
        assert_eq!(parse("7", now), Some(Duration::from_secs(7)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:39 GMT", now), Some(Duration::from_secs(2)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:30 GMT", now), Some(Duration::ZERO), "a time that is past");
        assert_eq!(parse("soon", now), None);
    }
}
