//! The events of a log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The speaker of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// The voice agent.
    Agent,
    /// The person on the phone.
    User,
    /// A tool that the agent called, or the result of the tool.
    Tool,
}

impl Speaker {
    /// Returns the speaker as the API spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::User => "user",
            Self::Tool => "tool",
        }
    }
}

impl fmt::Display for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Speaker {
    type Err = UnknownSpeaker;

    fn from_str(text: &str) -> Result<Self, UnknownSpeaker> {
        match text {
            "agent" => Ok(Self::Agent),
            "user" => Ok(Self::User),
            "tool" => Ok(Self::Tool),
            _ => Err(UnknownSpeaker),
        }
    }
}

/// The text is not the name of a [`Speaker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a speaker; one of agent, user, tool")]
pub struct UnknownSpeaker;

/// The kinds of events in a log. Each is one message type of the WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A turn that is complete.
    Transcription,
    /// A change of the status.
    CallStatus,
    /// The result of the call.
    CallCompleted,
}

impl EventKind {
    /// Returns the kind as it is stored, which is also the `type` of the message.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transcription => "transcription",
            Self::CallStatus => "call_status",
            Self::CallCompleted => "call_completed",
        }
    }
}

impl FromStr for EventKind {
    type Err = UnknownEventKind;

    fn from_str(text: &str) -> Result<Self, UnknownEventKind> {
        match text {
            "transcription" => Ok(Self::Transcription),
            "call_status" => Ok(Self::CallStatus),
            "call_completed" => Ok(Self::CallCompleted),
            _ => Err(UnknownEventKind),
        }
    }
}

/// The text is not the name of an [`EventKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of event")]
pub struct UnknownEventKind;
