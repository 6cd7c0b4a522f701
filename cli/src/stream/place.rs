//! Places in a call's log.

use std::fmt;
use std::str::FromStr;

use callscope_common::protocol::ServerMessage;
use callscope_common::{CallId, Cursor, Seq, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Gap, Incoming, Update};

/// The text of a cursor. Only the server interprets it; the client stores it and sends it back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct CursorText {
    len: u8,
    bytes: [u8; Cursor::MAX_LEN],
}

impl CursorText {
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }

    /// Returns the seq of the event before the place; `None` for a cursor in a newer format.
    pub(crate) fn seq(&self) -> Option<Seq> {
        self.as_str().parse().ok().map(Cursor::seq)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a cursor has 1 to {} visible ASCII characters", Cursor::MAX_LEN)]
pub(crate) struct InvalidCursor;

impl FromStr for CursorText {
    type Err = InvalidCursor;

    /// # Errors
    /// Anything but 1 to [`Cursor::MAX_LEN`] visible ASCII characters.
    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let is_short = (1..=Cursor::MAX_LEN).contains(&text.len());
        if !is_short || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidCursor);
        }
        let mut bytes = [0; Cursor::MAX_LEN];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { len: u8::try_from(text.len()).unwrap_or(u8::MAX), bytes })
    }
}

impl fmt::Debug for CursorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for CursorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for CursorText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CursorText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A place in a call's log. Files of other versions may hold no cursor, or null for the record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// The seq of the last event that arrived; 0 before the first.
    pub(crate) seq: Seq,
    /// The record that `seq` counts in.
    #[serde(default)]
    pub(crate) call_id: Option<CallId>,
    /// The last cursor that came, which says all of that and proves it. Servers of earlier versions send none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<CursorText>,
}

impl Place {
    /// The place after an event of a call that is not known yet.
    pub(crate) fn after(seq: Seq) -> Self {
        Self { seq, ..Self::default() }
    }

    pub(crate) fn behind(cursor: CursorText) -> Self {
        Self { seq: cursor.seq().unwrap_or(0), call_id: None, cursor: Some(cursor) }
    }

    /// The place before the first event of a call.
    pub(crate) fn start_of(call_id: CallId) -> Self {
        Self { call_id: Some(call_id), ..Self::default() }
    }

    /// Moves the place as `update` says.
    pub(crate) fn advance(&mut self, update: &Update) {
        match update {
            Update::Message(incoming) => {
                if let Some(seq) = incoming.seq {
                    (self.seq, self.cursor) = (seq, incoming.cursor);
                }
                if let ServerMessage::SubscriptionConfirmed(confirmed) = &incoming.message {
                    self.call_id = Some(confirmed.call_id);
                    self.cursor = incoming.cursor;
                }
            }
            Update::Ready(place) | Update::Resumed { place, .. } => *self = *place,
            Update::Gap(Gap::CursorInvalid { .. }) => *self = Self::default(),
            Update::Gap(Gap::Merged { call_id }) => *self = Self::start_of(*call_id),
            _ => {}
        }
    }
}

/// How far the stream of a call has come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// When the first turn of the call was spoken, or the first turn of the stream where that is not known.
    pub(crate) start: Option<Timestamp>,
    pub(crate) place: Place,
}

impl Progress {
    /// Goes along with a stream.
    pub(crate) fn note(&mut self, update: &Update) {
        self.place.advance(update);
        match update {
            Update::Message(Incoming { message: ServerMessage::Transcription(turn), .. }) => {
                self.start = self.start.or(Some(turn.timestamp));
            }
            Update::Gap(Gap::CursorInvalid { .. } | Gap::Merged { .. }) => self.start = None,
            _ => {}
        }
    }
}

/// A text that names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPlace {
    #[error("{0} is beyond every log")]
    TooLarge(String),
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    #[error("neither a cursor nor the number of an event")]
    Option,
}

/// Parses the value of `--after`: a cursor or a seq.
impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            return text.parse().map(Self::after).map_err(|_| InvalidPlace::TooLarge(text.to_owned()));
        }
        let cursor: CursorText = text.parse()?;
        if text.starts_with('-') {
            return Err(InvalidPlace::Option);
        }
        Ok(Self::behind(cursor))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn after_takes_a_cursor_or_a_number() {
        let cursor = Cursor::behind(CallId::from_u128(7), 12, None).to_string();
        let place: Place = cursor.parse().unwrap();
        assert_eq!((place.seq, place.cursor.unwrap().as_str()), (12, cursor.as_str()));
        assert_eq!("12".parse(), Ok(Place::after(12)));
        // A cursor in a newer format is kept as it is.
        assert_eq!("v2:whatever".parse::<Place>().unwrap().cursor.unwrap().as_str(), "v2:whatever");
        for wrong in ["", "-1", "a b", "1.\u{e9}", "99999999999999999999", &"x".repeat(41), "\u{1b}[2J"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong:?}");
        }
    }
}
