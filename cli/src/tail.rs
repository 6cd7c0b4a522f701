//! What `tail` does with the streams of calls: select, print, save, remember the place.

mod choose;
mod cursor_file;
mod ndjson;
mod options;
pub mod pattern;
mod plain;
mod save_file;
mod select;
mod streams;
pub mod tui;

use std::io;

use callscope_common::{Identifier, Timestamp};

use crate::exit::{Exit, Failure, Result};
use crate::render::Reader;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::stream::Update;

pub use choose::choose_live_call;
pub use cursor_file::CursorFile;
pub use ndjson::{NdjsonWriter, VERSION};
pub use options::Options;
pub use plain::{PlainWriter, describe_gap, describe_resume};
pub use save_file::SaveFile;
pub use select::{Selection, Selector};
pub use streams::{Shown, StreamEvent, Streams};

/// Where updates are shown.
pub trait Sink {
    /// Another call is followed; calls are numbered in the order of these.
    fn opened(&mut self, identifier: &Identifier) -> io::Result<()>;

    /// Shows one. `start` is when its call began, as far as known.
    fn update(&mut self, call: usize, update: &Update, start: Option<Timestamp>) -> io::Result<()>;

    /// The user wants no more.
    fn interrupted(&mut self) -> io::Result<()>;
}

/// Shows the streams in `sink` until all are over, or the user or a signal ends it.
pub async fn write_updates(
    streams: &mut Streams,
    sink: &mut dyn Sink,
    settings: &Settings,
    exit_status: bool,
) -> Result {
    let shown = write_until_end(streams, sink, settings, exit_status).await;
    // What came is kept, however it ended; why it ended is told first.
    let saved = streams.finish();
    shown.and_then(|exit| saved.map(|()| exit))
}

async fn write_until_end(streams: &mut Streams, sink: &mut dyn Sink, settings: &Settings, exit_status: bool) -> Result {
    let mut signals = Signals::listen()?;
    let mut reader = Reader::watch();
    loop {
        let next = tokio::select! {
            next = streams.next() => match next {
                Some(next) => next,
                None => return streams.exit(exit_status),
            },
            () = reader.gone() => return Err(Failure::output(&io::ErrorKind::BrokenPipe.into())),
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
            StreamEvent::Updates(Shown { call, updates, start, .. }) => {
                for update in &updates {
                    sink.update(call, update, start).map_err(|error| Failure::output(&error))?;
                }
                streams.persist(call, &updates, start)?;
            }
        }
    }
}
