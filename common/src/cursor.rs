//! A place in the log of a call, as clients hold it.
//!
//! A client keeps the last cursor that it saw, and sends it back to resume after that event. A cursor names the call,
//! the `seq` of an event, and the tag that was drawn at random when that event was appended. A log only grows. So a log
//! that has the tagged event also has all events that the client saw before. The tag at that `seq` is another one, or
//! missing, in another record, in a database that was restored to an older state, and in a replica that was promoted
//! although it lagged. Then the cursor is refused (docs/adr/0011).

use std::fmt;
use std::str::FromStr;

use crate::{CallId, Seq};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// The text that precedes the cursor at the end of an event's message.
const CURSOR_FIELD: &str = ",\"cursor\":\"";

/// A place in a log: behind the event `seq`, or before the first event if `seq` is 0.
///
/// The text is `{seq}.{call}{event}`: decimal digits, 8 characters for the call and 11 for the event, in URL-safe
/// base64. The last part is missing at the start of a log, and behind events that versions without cursors stored. The
/// text is opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    seq: Seq,
    call: [u8; 6],
    tag: Option<EventTag>,
}

/// 64 random bits that distinguish two events with equal content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTag(pub u64);

impl Cursor {
    /// Maximum length of a cursor's text, in characters.
    pub const MAX_LEN: usize = 40;

    /// Returns the place before the first event of a log.
    #[must_use]
    pub fn start(call_id: CallId) -> Self {
        Self { seq: 0, call: call_part(call_id), tag: None }
    }

    /// Returns the place behind an event. `tag` is `None` if the event was stored without one.
    #[must_use]
    pub fn behind(call_id: CallId, seq: Seq, tag: Option<EventTag>) -> Self {
        Self { seq, call: call_part(call_id), tag }
    }

    /// Returns the seq of the event before this place, or 0 at the start.
    #[must_use]
    pub fn seq(self) -> Seq {
        self.seq
    }

    /// Whether the cursor was made for this call.
    #[must_use]
    pub fn is_of(self, call_id: CallId) -> bool {
        self.call == call_part(call_id)
    }

    /// Returns the cursor at the end of a stored message, or `None` if the message was stored without one.
    #[must_use]
    pub fn of_message(message: &str) -> Option<&str> {
        let head = message.strip_suffix("\"}")?;
        let at = head.len().saturating_sub(Self::MAX_LEN + CURSOR_FIELD.len());
        // The offset is moved to the next character boundary.
        let at = (at..head.len()).find(|at| head.is_char_boundary(*at))?;
        let (_, cursor) = head[at..].rsplit_once(CURSOR_FIELD)?;
        Some(cursor).filter(|cursor| !cursor.contains('"'))
    }

    /// Returns a stored message as it is sent: `call_id` and `cursor` are added at its end if it was stored without
    /// them.
    #[must_use]
    pub fn complete(message: String, call_id: CallId, seq: Seq) -> String {
        if Self::of_message(&message).is_some() {
            return message;
        }
        let Some(head) = message.strip_suffix('}') else { return message };
        format!("{head},\"call_id\":\"{call_id}\"{CURSOR_FIELD}{}\"}}", Self::behind(call_id, seq, None))
    }
}

/// Returns the last 6 bytes of a call id, which are random in every version of UUID that the server generates.
fn call_part(call_id: CallId) -> [u8; 6] {
    let bytes: &[u8; 16] = call_id.as_bytes();
    let mut part = [0; 6];
    part.copy_from_slice(&bytes[10..]);
    part
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 19];
        let encode = |bytes: &[u8], text: &mut [u8]| BASE64_URL_SAFE_NO_PAD.encode_slice(bytes, text).unwrap_or(0);
        let mut len = encode(&self.call, &mut text);
        if let Some(EventTag(tag)) = self.tag {
            len += encode(&tag.to_be_bytes(), &mut text[8..]);
        }
        write!(f, "{}.{}", self.seq, std::str::from_utf8(&text[..len]).unwrap_or_default())
    }
}

/// The text is not a cursor of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (digits, encoded) = text.split_once('.').ok_or(InvalidCursor)?;
        // Signs and leading zeros are refused, so that each place has exactly one text.
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        let seq: Seq = digits.parse().ok().filter(|_| is_plain).ok_or(InvalidCursor)?;
        let (call, tag) = encoded.split_at_checked(8).ok_or(InvalidCursor)?;
        let call: [u8; 6] = decode(call)?;
        let tag = if tag.is_empty() { None } else { Some(EventTag(u64::from_be_bytes(decode(tag)?))) };
        if seq == 0 && tag.is_some() {
            return Err(InvalidCursor);
        }
        Ok(Self { seq, call, tag })
    }
}

fn decode<const LEN: usize>(text: &str) -> Result<[u8; LEN], InvalidCursor> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
    bytes.try_into().map_err(|_| InvalidCursor)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn cursors_are_parsed_back_and_are_short() {
        let call_id = Uuid::from_u128(u128::MAX - 7);
        for (seq, tag) in [(0, None), (1, Some(EventTag(0))), (Seq::MAX, Some(EventTag(u64::MAX))), (7, None)] {
            let cursor = Cursor::behind(call_id, seq, tag);
            let text = cursor.to_string();
            assert!(text.len() <= Cursor::MAX_LEN, "{text}");
            assert_eq!(text.parse(), Ok(cursor));
            assert!(cursor.is_of(call_id) && !cursor.is_of(Uuid::nil()));
        }
    }

    #[test]
    fn any_other_text_is_refused() {
        let good = Cursor::behind(Uuid::from_u128(9), 12, Some(EventTag(3))).to_string();
        let marks = good.split_once('.').unwrap().1;
        for wrong in [
            "",
            "7",
            ".",
            "7.",
            "7.short",
            &format!("-1.{marks}"),
            &format!("+1.{marks}"),
            &format!("01.{marks}"),
            &format!("0.{marks}"),
            &format!("{good}A"),
            &format!("{good} "),
            &format!("99999999999999999999.{marks}"),
            &format!("1.{}", &marks[..10]),
            &good.replace('.', ".."),
        ] {
            assert_eq!(wrong.parse::<Cursor>(), Err(InvalidCursor), "{wrong:?}");
        }
    }

    #[test]
    fn the_cursor_of_a_message_is_found_beside_any_text() {
        let call_id = Uuid::from_u128(5);
        let cursor = Cursor::behind(call_id, 3, Some(EventTag(77))).to_string();
        for text in ["", "x", "ü".repeat(50).as_str(), r#"\",\"cursor\":\"3.AAAAAAAA\"}"#] {
            let message = format!(r#"{{"type":"transcription","message_text":"{text}","seq":3,"cursor":"{cursor}"}}"#);
            assert_eq!(Cursor::of_message(&message), Some(cursor.as_str()), "{message}");
            assert_eq!(Cursor::complete(message.clone(), call_id, 3), message);
            let old = format!(r#"{{"type":"transcription","message_text":"{text}","seq":3}}"#);
            assert_eq!(Cursor::of_message(&old), None, "{old}");
            let sent = Cursor::complete(old, call_id, 3);
            let own = Cursor::behind(call_id, 3, None).to_string();
            assert_eq!(Cursor::of_message(&sent), Some(own.as_str()), "{sent}");
            assert!(serde_json::from_str::<serde_json::Value>(&sent).unwrap()["call_id"] == call_id.to_string());
        }
    }
}
