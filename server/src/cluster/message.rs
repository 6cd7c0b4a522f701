//! Messages between server processes, in JSON, so that processes of different versions understand each other.
//!
//! The member names in the JSON never change. A frame is JSON itself and is carried byte for byte. A message that
//! cannot be read is dropped, and reconciliation finds its events.

use callscope_common::event::EventKind;
use callscope_common::{CallId, Identifier, Seq};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::log::Notification;

/// Most bytes of a frame that is carried. Followers in other processes read longer ones from the database.
const MAX_FRAME_BYTES: usize = 32 * 1024;
/// Most bytes of all frames in one message. Redis disconnects subscribers whose output buffer is full.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// A message. The envelope of its [`seal`](super::seal) names the sender.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Body<'m> {
    /// Sent for its sender alone: its return proves that the way to Redis and back works.
    #[serde(rename = "beat")]
    Echo,
    /// The sender dropped notifications, so the others have to compare heads with the database.
    Gap,
    #[serde(borrow, rename = "news")]
    Notifications(Vec<EncodedNotification<'m>>),
    #[serde(rename = "word")]
    Rpc(Rpc),
}

/// A [`Notification`] as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EncodedNotification<'m> {
    Events {
        call_id: CallId,
        first: Seq,
        #[serde(borrow)]
        events: Vec<(&'m str, &'m RawValue)>,
    },
    /// The log has reached `head`. It replaces the frames that are too long to be carried.
    Head {
        call_id: CallId,
        head: Seq,
        ended: bool,
    },
    Partial {
        call_id: CallId,
        #[serde(borrow)]
        frame: &'m RawValue,
    },
    Named {
        identifier: Identifier,
    },
    Merged {
        from: CallId,
        into: CallId,
    },
    Deleted {
        call_id: CallId,
    },
}

/// A question to all processes, or a part of a reply.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rpc {
    /// A question to the other processes.
    Ask {
        /// The replies carry this id too.
        id: Uuid,
        /// A [`Question`](super::Question). It is raw, because the receiver's version may not know it.
        question: Box<RawValue>,
    },
    /// A part of a reply.
    #[serde(rename = "answer")]
    Reply {
        /// Id of the question.
        id: Uuid,
        /// A list of entries.
        part: Box<RawValue>,
        /// Whether this is the last part.
        is_last: bool,
    },
}

/// The call that decides which channel carries a notification; `None` if it names no call.
pub(super) fn call_of(notification: &Notification) -> Option<CallId> {
    match notification {
        Notification::EventsAppended { call_id, .. }
        | Notification::HeadMoved { call_id, .. }
        | Notification::PartialTurn { call_id, .. }
        | Notification::Deleted { call_id } => Some(*call_id),
        Notification::Merged { from, .. } => Some(*from),
        Notification::IdentifierAssigned { .. } => None,
    }
}

/// Encodes notifications as one message.
pub(super) fn encode(notifications: &[&Notification]) -> Option<String> {
    let mut encoded = Vec::with_capacity(notifications.len());
    let mut bytes_left = MAX_MESSAGE_BYTES;
    for notification in notifications {
        match notification {
            Notification::EventsAppended { call_id, first, events } => {
                push_events(&mut encoded, *call_id, *first, events, &mut bytes_left)
            }
            Notification::HeadMoved { call_id, head, ended } => {
                encoded.push(EncodedNotification::Head { call_id: *call_id, head: *head, ended: *ended });
            }
            Notification::PartialTurn { call_id, frame } => match raw(frame, &mut bytes_left) {
                Some(frame) => encoded.push(EncodedNotification::Partial { call_id: *call_id, frame }),
                // A lost partial turn does no harm, because the next one replaces it.
                None => continue,
            },
            Notification::IdentifierAssigned { identifier } => {
                encoded.push(EncodedNotification::Named { identifier: identifier.clone() })
            }
            Notification::Merged { from, into } => {
                encoded.push(EncodedNotification::Merged { from: *from, into: *into })
            }
            Notification::Deleted { call_id } => encoded.push(EncodedNotification::Deleted { call_id: *call_id }),
        }
    }
    serde_json::to_string(&Body::Notifications(encoded)).ok()
}

/// Encodes runs of consecutive events, and a head for each event whose frame is too long.
fn push_events<'m>(
    encoded: &mut Vec<EncodedNotification<'m>>,
    call_id: CallId,
    first: Seq,
    events: &'m [(EventKind, std::sync::Arc<str>)],
    bytes_left: &mut usize,
) {
    let mut run: Vec<(&str, &RawValue)> = Vec::new();
    let mut run_first = first;
    for (seq, (kind, frame)) in (first..).zip(events) {
        if let Some(frame) = raw(frame, bytes_left) {
            run.push((kind.as_str(), frame));
            continue;
        }
        if !run.is_empty() {
            encoded.push(EncodedNotification::Events { call_id, first: run_first, events: std::mem::take(&mut run) });
        }
        encoded.push(EncodedNotification::Head { call_id, head: seq, ended: *kind == EventKind::CallCompleted });
        run_first = seq + 1;
    }
    if !run.is_empty() {
        encoded.push(EncodedNotification::Events { call_id, first: run_first, events: run });
    }
}

/// Returns a frame as raw JSON and subtracts its length from `bytes_left`; `None` if it is too long.
fn raw<'m>(frame: &'m str, bytes_left: &mut usize) -> Option<&'m RawValue> {
    if frame.len() > MAX_FRAME_BYTES.min(*bytes_left) {
        return None;
    }
    *bytes_left -= frame.len();
    serde_json::from_str(frame).ok()
}

/// Decodes notifications. One that has an event of a kind that this version does not know is left out, and
/// reconciliation finds its events.
pub(super) fn decode(encoded: Vec<EncodedNotification<'_>>) -> Vec<Notification> {
    let notification = |encoded| {
        Some(match encoded {
            EncodedNotification::Events { call_id, first, events } => {
                let events = events
                    .into_iter()
                    .map(|(kind, frame)| Some((kind.parse().ok()?, frame.get().into())))
                    .collect::<Option<_>>()?;
                Notification::EventsAppended { call_id, first, events }
            }
            EncodedNotification::Head { call_id, head, ended } => Notification::HeadMoved { call_id, head, ended },
            EncodedNotification::Partial { call_id, frame } => {
                Notification::PartialTurn { call_id, frame: frame.get().into() }
            }
            EncodedNotification::Named { identifier } => Notification::IdentifierAssigned { identifier },
            EncodedNotification::Merged { from, into } => Notification::Merged { from, into },
            EncodedNotification::Deleted { call_id } => Notification::Deleted { call_id },
        })
    };
    encoded.into_iter().filter_map(notification).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(notifications: &[Notification]) -> Vec<Notification> {
        let text = encode(&notifications.iter().collect::<Vec<_>>()).expect("a message");
        let Body::Notifications(encoded) = serde_json::from_str(&text).expect("readable") else {
            panic!("not notifications: {text}")
        };
        decode(encoded)
    }

    #[test]
    fn frames_arrive_byte_for_byte() {
        let frame = r#"{"type":"transcription","message_text":"a \u001b[31m \"quoted\" ü  ","seq":7,"x":1.50}"#;
        let events = vec![(EventKind::Transcription, frame.into()), (EventKind::CallCompleted, "{}".into())];
        let decoded = round_trip(&[Notification::EventsAppended { call_id: CallId::max(), first: 7, events }]);
        let [Notification::EventsAppended { call_id, first: 7, events }] = &decoded[..] else { panic!("{decoded:?}") };
        assert_eq!((*call_id, &*events[0].1, events[1].0), (CallId::max(), frame, EventKind::CallCompleted));
    }

    #[test]
    fn a_long_frame_is_replaced_by_its_head() {
        let long = format!("{:?}", "x".repeat(MAX_FRAME_BYTES));
        let kinds = [EventKind::Transcription, EventKind::CallStatus, EventKind::CallCompleted];
        let frames = ["{}", &long, "{}"];
        let events = kinds.into_iter().zip(frames).map(|(kind, frame)| (kind, frame.into())).collect();
        let decoded = round_trip(&[Notification::EventsAppended { call_id: CallId::max(), first: 1, events }]);
        assert!(
            matches!(
                &decoded[..],
                [
                    Notification::EventsAppended { first: 1, .. },
                    Notification::HeadMoved { head: 2, ended: false, .. },
                    Notification::EventsAppended { first: 3, .. },
                ]
            ),
            "{decoded:?}"
        );
    }

    #[test]
    fn a_message_is_bounded_and_carries_the_head_of_the_log() {
        let frame: std::sync::Arc<str> = format!("{:?}", "x".repeat(30_000)).into();
        let events = vec![(EventKind::Transcription, frame); 100];
        let decoded = round_trip(&[Notification::EventsAppended { call_id: CallId::max(), first: 1, events }]);
        let Some(Notification::EventsAppended { first: 1, events, .. }) = decoded.first() else {
            panic!("{decoded:?}")
        };
        assert!(events.len() < 40);
        assert!(matches!(decoded.last(), Some(Notification::HeadMoved { head: 100, .. })), "{decoded:?}");
    }

    #[test]
    fn everything_else_arrives_too() {
        let identifier = Identifier::parse("EL_a_1").expect("an identifier");
        let (from, into) = (CallId::nil(), CallId::max());
        let decoded = round_trip(&[
            Notification::PartialTurn { call_id: into, frame: r#"{"type":"transcription_partial"}"#.into() },
            Notification::IdentifierAssigned { identifier: identifier.clone() },
            Notification::Merged { from, into },
            Notification::Deleted { call_id: from },
        ]);
        let [
            Notification::PartialTurn { .. },
            Notification::IdentifierAssigned { identifier: named },
            Notification::Merged { .. },
            Notification::Deleted { .. },
        ] = &decoded[..]
        else {
            panic!("{decoded:?}")
        };
        assert_eq!(*named, identifier);
    }
}
