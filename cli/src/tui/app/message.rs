//! What the world tells the full-screen `tail`, and what that wishes of it.

use callscope_common::Timestamp;
use callscope_common::api::CallView;

use crate::live::{Place, Update};

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
}

/// What is wanted of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Follow another call.
    Open(String),
    /// No longer follow a call.
    Close(usize),
    /// Ask what the server knows of a call.
    Describe(usize, String),
    /// Ask which calls there are.
    List,
    /// Write a new file.
    Save {
        /// Its path.
        path: String,
        /// What goes into it.
        content: String,
    },
    /// Hold a recording, or let it go on.
    Pause,
}
