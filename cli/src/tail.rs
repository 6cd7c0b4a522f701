//! Follows the streams of calls: selects updates, prints or saves them, and remembers how far each call was read.

mod choose;
mod client_line;
mod cursor_file;
mod ndjson;
mod options;
pub(crate) mod pattern;
mod plain;
mod save_file;
mod select;
mod streams;
pub(crate) mod tui;

use std::io;

use callscope_common::{Identifier, Timestamp};

use crate::exit::{Exit, Failure, Result};
use crate::render::StdoutReader;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::stream::Update;

pub(crate) use choose::choose_live_call;
pub(crate) use client_line::ClientLine;
pub(crate) use cursor_file::CursorFile;
pub(crate) use ndjson::NdjsonWriter;
pub(crate) use options::Options;
pub(crate) use plain::{PlainWriter, describe_gap, describe_resume};
pub(crate) use save_file::SaveFile;
pub(crate) use select::{Selection, Selector};
pub(crate) use streams::{StreamEvent, Streams};

/// An output that updates are written to.
pub(crate) trait Sink {
    /// Another call is followed. Its number is one more than that of the call before.
    fn opened(&mut self, identifier: &Identifier) -> io::Result<()>;

    /// Writes an update. `start` is the time at which the call began, if known.
    fn update(&mut self, call: usize, update: &Update, start: Option<Timestamp>) -> io::Result<()>;

    /// The user ended the program before the streams ended.
    fn interrupted(&mut self) -> io::Result<()>;
}

/// Writes the updates of all streams to `sink` until the streams end, or the user or a signal ends the program.
pub(crate) async fn write_updates(
    streams: &mut Streams,
    sink: &mut dyn Sink,
    settings: &Settings,
    exit_status: bool,
) -> Result {
    let shown = write_until_end(streams, sink, settings, exit_status).await;
    // Everything that was written is kept after an error too, and the error of the stream comes first.
    let saved = streams.finish();
    shown.and_then(|exit| saved.map(|()| exit))
}

async fn write_until_end(streams: &mut Streams, sink: &mut dyn Sink, settings: &Settings, exit_status: bool) -> Result {
    let mut signals = Signals::listen()?;
    let mut reader = StdoutReader::watch();
    loop {
        let next = tokio::select! {
            next = streams.next() => match next {
                Some(next) => next,
                None => return streams.exit(exit_status),
            },
            () = reader.closed() => return Err(Failure::output(&io::ErrorKind::BrokenPipe.into())),
            _ = signals.next() => {
                sink.interrupted().map_err(|error| Failure::output(&error))?;
                for command in streams.resume_commands() {
                    settings.console.say(command);
                }
                return Ok(Exit::Interrupted);
            }
        };
        match next {
            StreamEvent::Opened(call) => {
                let identifier = &streams.requests[call].identifier;
                sink.opened(identifier).map_err(|error| Failure::output(&error))?;
            }
            StreamEvent::Updates(shown) => {
                for update in &shown.updates {
                    sink.update(shown.call, update, shown.progress.start).map_err(|error| Failure::output(&error))?;
                }
                streams.persist(&shown)?;
            }
        }
    }
}
