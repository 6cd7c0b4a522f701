//! A followed call, as the full-screen view knows it.

use callscope_common::{CallStatus, Timestamp};

use super::entry::Entry;
use crate::live::Place;

/// A followed call.
#[derive(Debug)]
pub struct Call {
    /// As the user named it.
    pub identifier: String,
    /// How its connection stands.
    pub link: Link,
    /// How far its stream has come.
    pub place: Place,
    /// Its status as last heard.
    pub status: Option<CallStatus>,
    /// When it began.
    pub start: Option<Timestamp>,
    /// How long it took, once it ended.
    pub duration: Option<f64>,
    /// The turn being spoken.
    pub partial: Option<Entry>,
    /// When the newest turn was spoken.
    pub last_turn: Option<Timestamp>,
}

/// How a call's connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Not connected yet.
    Connecting,
    /// Connected, and the call is not known yet.
    Waiting,
    /// Connected and subscribed.
    Live,
    /// Broken; the next try comes at `at`.
    Retry {
        /// Which try.
        attempt: u32,
        /// When.
        at: Timestamp,
    },
    /// All of it has come.
    Ended,
    /// Broken off for good.
    Stopped,
}

impl Call {
    /// Before anything came.
    pub fn new(identifier: String) -> Self {
        Self {
            identifier,
            link: Link::Connecting,
            place: Place::default(),
            status: None,
            start: None,
            duration: None,
            partial: None,
            last_turn: None,
        }
    }

    /// The connection's state in words.
    pub fn state(&self, now: Timestamp) -> String {
        match (&self.link, self.status) {
            (Link::Connecting, _) => "CONNECTING".into(),
            (Link::Waiting, _) => "WAITING".into(),
            (Link::Live, _) => "LIVE".into(),
            (Link::Retry { attempt, at }, _) => {
                #[allow(clippy::cast_possible_truncation)]
                let secs = at.secs_since(now).ceil().max(0.0) as i64;
                format!("RETRY {attempt} in {secs}s")
            }
            (Link::Ended, Some(status)) => format!("ENDED {status}"),
            (Link::Ended, None) => "ENDED".into(),
            (Link::Stopped, _) => "STOPPED".into(),
        }
    }

    /// How long it has lasted, in seconds.
    pub fn lasted(&self, now: Timestamp) -> Option<f64> {
        if self.duration.is_some() {
            return self.duration;
        }
        let end = if matches!(self.link, Link::Ended | Link::Stopped) { self.last_turn? } else { now };
        Some(end.secs_since(self.start?))
    }
}
