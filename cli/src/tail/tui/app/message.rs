//! What the world tells the full-screen `tail`, and what that requests of it.

use callscope_common::api::CallView;
use callscope_common::{Seq, Timestamp};

use crate::stream::{Place, Update};
use crate::tail::tui::save::SaveRequest;
use crate::tail::tui::transcript::EventMatch;

/// Something came of a call's stream.
#[derive(Debug)]
pub struct Live {
    /// Which call.
    pub call: usize,
    /// What to show.
    pub shown: Vec<Update>,
    /// When the call began.
    pub start: Option<Timestamp>,
    /// How far its stream has come.
    pub place: Place,
}

/// What comes from the world.
#[derive(Debug)]
pub enum Message {
    /// Of streams.
    Live(Vec<Live>),
    /// Another call is followed.
    Opened {
        /// The stream's number.
        call: usize,
        /// As it was named.
        identifier: String,
        /// Whether somebody asked for it, and wants to see it.
        wanted: bool,
    },
    /// What the server knows of a followed call.
    Described(usize, Box<CallView>),
    /// The calls there are, for the picker; or why that is not known.
    Calls(Result<Vec<CallView>, String>),
    /// A transcript was saved, or why not; in words.
    Saved(Result<String, String>),
    /// A recording is held, or goes on.
    Paused(bool),
    /// Events that were read again; none where all of them were. Or why they could not be.
    Reloaded(ReloadTarget, Result<Vec<Box<str>>, String>),
    /// The events not held that match what was searched for or filtered by.
    Scanned(ReloadTarget, ScanQuery, Result<Vec<EventMatch>, String>),
}

/// Whose events are read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadTarget {
    /// The stream's number.
    pub call: usize,
    /// The record.
    pub id: String,
    /// How often its transcript had begun anew.
    pub generation: u32,
}

/// What events are looked through for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanQuery {
    /// Whether to filter by it, and not to search for it.
    pub is_filter: bool,
    /// The pattern, as it was typed.
    pub text: String,
}

/// What is wanted of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Follow another call.
    Open(String),
    /// No longer follow a call.
    Close(usize),
    /// Ask what the server knows of a call.
    Describe(usize, String),
    /// Ask which calls there are.
    List,
    /// Write a new file.
    Save(SaveRequest),
    /// Read events again, as ranges: behind the first seq, up to the second.
    Reload(ReloadTarget, Vec<(Seq, Seq)>),
    /// Look through events that are not held.
    Scan(ReloadTarget, ScanQuery, Vec<(Seq, Seq)>),
    /// Hold a recording, or let it go on.
    Pause,
}
