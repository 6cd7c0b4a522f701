//! Messages between server processes: JSON, so that processes of different versions understand each other.
//!
//! The member names in the JSON never change. A frame travels as the JSON text that it is, byte for byte. A message
//! that cannot be read is dropped, and reconciliation makes up for it.

use callscope_common::event::EventKind;
use callscope_common::{CallId, Identifier, Seq};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::log::Notification;

/// Most bytes of a frame that is carried; followers elsewhere read longer ones from the database.
const MAX_FRAME: usize = 32 * 1024;
/// Most bytes of frames in one message: Redis disconnects subscribers for which too much waits.
const MAX_FRAMES: usize = 1 << 20;

/// A message. Its [`seal`](super::seal) says who sent it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Body<'m> {
    /// Comes back to its sender, which proves the way there and back.
    #[serde(rename = "beat")]
    Echo,
    /// The sender dropped notifications, so heads have to be compared.
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
    /// The log reaches `head`; the frames are too long to be carried.
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

/// A question to all processes, or a reply to one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rpc {
    /// A question to the other processes.
    Ask {
        /// Replies carry it too.
        id: Uuid,
        /// A [`Question`](super::Question), which an older version may not know.
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

/// The call whose channel carries a notification; `None` for one that concerns no single call.
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
    let mut news = Vec::with_capacity(notifications.len());
    let mut room = MAX_FRAMES;
    for notification in notifications {
        match notification {
            Notification::EventsAppended { call_id, first, events } => {
                push_events(&mut news, *call_id, *first, events, &mut room)
            }
            Notification::HeadMoved { call_id, head, ended } => {
                news.push(EncodedNotification::Head { call_id: *call_id, head: *head, ended: *ended });
            }
            Notification::PartialTurn { call_id, frame } => match raw(frame, &mut room) {
                Some(frame) => news.push(EncodedNotification::Partial { call_id: *call_id, frame }),
                // The latest partial turn wins, so a missing one is no loss.
                None => continue,
            },
            Notification::IdentifierAssigned { identifier } => {
                news.push(EncodedNotification::Named { identifier: identifier.clone() })
            }
            Notification::Merged { from, into } => news.push(EncodedNotification::Merged { from: *from, into: *into }),
            Notification::Deleted { call_id } => news.push(EncodedNotification::Deleted { call_id: *call_id }),
        }
    }
    serde_json::to_string(&Body::Notifications(news)).ok()
}

fn push_events<'m>(
    news: &mut Vec<EncodedNotification<'m>>,
    call_id: CallId,
    first: Seq,
    events: &'m [(EventKind, std::sync::Arc<str>)],
    room: &mut usize,
) {
    let mut run: Vec<(&str, &RawValue)> = Vec::new();
    let mut start = first;
    for (seq, (kind, frame)) in (first..).zip(events) {
        if let Some(frame) = raw(frame, room) {
            run.push((kind.as_str(), frame));
            continue;
        }
        if !run.is_empty() {
            news.push(EncodedNotification::Events { call_id, first: start, events: std::mem::take(&mut run) });
        }
        news.push(EncodedNotification::Head { call_id, head: seq, ended: *kind == EventKind::CallCompleted });
        start = seq + 1;
    }
    if !run.is_empty() {
        news.push(EncodedNotification::Events { call_id, first: start, events: run });
    }
}

fn raw<'m>(frame: &'m str, room: &mut usize) -> Option<&'m RawValue> {
    if frame.len() > MAX_FRAME.min(*room) {
        return None;
    }
    *room -= frame.len();
    serde_json::from_str(frame).ok()
}

/// Decodes notifications. Events of a kind that this version does not know are left out.
pub(super) fn decode(news: Vec<EncodedNotification<'_>>) -> Vec<Notification> {
    let notification = |news| {
        Some(match news {
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
    news.into_iter().filter_map(notification).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(notifications: &[Notification]) -> Vec<Notification> {
        let text = encode(&notifications.iter().collect::<Vec<_>>()).expect("a message");
        let Body::Notifications(news) = serde_json::from_str(&text).expect("readable") else {
            panic!("not news: {text}")
        };
        decode(news)
    }

    #[test]
    fn frames_arrive_byte_for_byte() {
        let frame = r#"{"type":"transcription","message_text":"a \u001b[31m \"quoted\" ü  ","seq":7,"x":1.50}"#;
        let events = vec![(EventKind::Transcription, frame.into()), (EventKind::CallCompleted, "{}".into())];
        let heard = there_and_back(&[Notification::EventsAppended { call_id: CallId::max(), first: 7, events }]);
        let [Notification::EventsAppended { call_id, first: 7, events }] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!((*call_id, &*events[0].1, events[1].0), (CallId::max(), frame, EventKind::CallCompleted));
    }

    #[test]
    fn a_long_frame_leaves_only_its_head_behind() {
        let long = format!("{:?}", "x".repeat(MAX_FRAME));
        let kinds = [EventKind::Transcription, EventKind::CallStatus, EventKind::CallCompleted];
        let frames = ["{}", &long, "{}"];
        let events = kinds.into_iter().zip(frames).map(|(kind, frame)| (kind, frame.into())).collect();
        let heard = there_and_back(&[Notification::EventsAppended { call_id: CallId::max(), first: 1, events }]);
        assert!(
            matches!(
                &heard[..],
                [
                    Notification::EventsAppended { first: 1, .. },
                    Notification::HeadMoved { head: 2, ended: false, .. },
                    Notification::EventsAppended { first: 3, .. },
                ]
            ),
            "{heard:?}"
        );
    }

    #[test]
    fn a_message_is_bounded_and_says_how_far_the_log_reaches() {
        let frame: std::sync::Arc<str> = format!("{:?}", "x".repeat(30_000)).into();
        let events = vec![(EventKind::Transcription, frame); 100];
        let heard = there_and_back(&[Notification::EventsAppended { call_id: CallId::max(), first: 1, events }]);
        let Some(Notification::EventsAppended { first: 1, events, .. }) = heard.first() else { panic!("{heard:?}") };
        assert!(events.len() < 40);
        assert!(matches!(heard.last(), Some(Notification::HeadMoved { head: 100, .. })), "{heard:?}");
    }

    #[test]
    fn everything_else_arrives_too() {
        let identifier = Identifier::parse("EL_a_1").expect("an identifier");
        let (from, into) = (CallId::nil(), CallId::max());
        let heard = there_and_back(&[
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
        ] = &heard[..]
        else {
            panic!("{heard:?}")
        };
        assert_eq!(*named, identifier);
    }
}
