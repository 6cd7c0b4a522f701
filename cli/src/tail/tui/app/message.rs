//! The messages of a source to the full-screen `tail`, and its requests to the source.

use callscope_common::Seq;
use callscope_common::api::CallView;

use crate::stream::CallUpdates;
use crate::tail::tui::save::SaveRequest;
use crate::tail::tui::transcript::EventMatch;

/// A message of the source.
#[derive(Debug)]
pub(crate) enum Message {
    /// Updates of the streams.
    Updates(Vec<CallUpdates>),
    /// Another call is followed.
    Opened {
        call: usize,
        /// The name that it is followed by.
        identifier: String,
        /// Whether the user asked for it, so that its tab is shown.
        wanted: bool,
    },
    /// What the server knows about the call of this number.
    Described(usize, Box<CallView>),
    /// The calls for the picker, or the error.
    Calls(Result<Vec<CallView>, String>),
    /// The outcome of [`Request::Save`] in words.
    Saved(Result<String, String>),
    /// Whether the recording is paused now.
    Paused(bool),
    /// Events that were read again, or the error. An empty list comes last.
    Reloaded(ReloadTarget, Result<Vec<Box<str>>, String>),
    /// The evicted events that match a search or a filter, or the error.
    Scanned(ReloadTarget, ScanQuery, Result<Vec<EventMatch>, String>),
}

/// The transcript that events are read for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReloadTarget {
    /// The number of the call.
    pub(crate) call: usize,
    /// The id of the call record.
    pub(crate) id: String,
    /// The generation of the transcript when the request was made.
    pub(crate) generation: u32,
}

/// A search or a filter that evicted events are compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScanQuery {
    /// Whether it is a filter.
    pub(crate) is_filter: bool,
    /// The pattern as it was typed.
    pub(crate) text: String,
}

/// A request to the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Follow another call.
    Open(String),
    /// Stop following the call of this number.
    Close(usize),
    /// Ask what the server knows about a call, which has this number and name.
    Describe(usize, String),
    /// List the calls.
    List,
    Save(SaveRequest),
    /// Read events again, as ranges: behind the first seq, up to the second.
    Reload(ReloadTarget, Vec<(Seq, Seq)>),
    /// Search evicted events, as ranges: behind the first seq, up to the second.
    Scan(ReloadTarget, ScanQuery, Vec<(Seq, Seq)>),
    /// Pause or continue a recording.
    Pause,
}
