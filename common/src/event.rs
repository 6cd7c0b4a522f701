//! The events of a log.

use crate::text_enum::text_enum;

text_enum! {
    /// The speaker of a turn.
    Speaker, "speaker" {
        /// The voice agent.
        Agent = "agent",
        /// The person on the phone.
        User = "user",
        /// A tool that the agent called, or the result of the tool.
        Tool = "tool",
    }
}

text_enum! {
    /// The kinds of events in a log. Each is one message type of the WebSocket.
    EventKind, "kind of event" {
        /// A turn that is complete.
        Transcription = "transcription",
        /// A change of the status.
        CallStatus = "call_status",
        /// The result of the call.
        CallCompleted = "call_completed",
    }
}
