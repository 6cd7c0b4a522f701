//! What `tail` does with the streams of calls: select, print, save, remember the place.

mod cursor_file;
mod ndjson;
mod outcome;
mod picker;
mod plain;
mod reader;
mod select;
mod signals;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use callscope_common::{CallStatus, Timestamp};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::args;
use crate::client::Client;
use crate::exit::{Exit, Failure, Result};
use crate::live::{self, EndReason, Ending, Endpoint, Place, Request, Start, Update};
use crate::settings::Settings;
use reader::Reader;

pub use cursor_file::CursorFile;
pub use ndjson::Ndjson;
pub use outcome::outcome;
pub use picker::pick;
pub use plain::{Plain, gap_words};
pub use select::{Selection, Selector};
pub use signals::Signals;

/// How many updates may wait between the sockets and the writer. While it is full the sockets are not read, so that a
/// reader that stopped slows the server's sending and costs no memory.
const QUEUE: usize = 256;

/// Where updates are shown.
pub trait Sink {
    /// Shows one. `start` is when its call began, as far as known.
    fn update(&mut self, call: usize, update: &Update, start: Option<Timestamp>) -> io::Result<()>;

    /// The user wants no more.
    fn interrupted(&mut self) -> io::Result<()>;
}

/// The streams of one `tail`, with all that happens to updates before they are shown.
pub struct Streams {
    receiver: mpsc::Receiver<(usize, Update)>,
    /// What is followed.
    pub requests: Vec<Request>,
    selectors: Vec<Selector>,
    save: Option<Ndjson<std::fs::File>>,
    cursors: Option<CursorFile>,
    endings: Vec<Option<Ending>>,
    flags: Option<String>,
}

impl Streams {
    /// Begins to follow `requests`.
    pub async fn open(settings: &Settings, requests: Vec<Request>, options: &args::Tail) -> Result<Self> {
        let endpoint = Endpoint::new(settings);
        let identifiers = requests.iter().map(|request| request.identifier.clone()).collect();
        let save = match &options.save {
            Some(path) => {
                let file = std::fs::File::create(path).map_err(|error| Failure::file("write", path, &error))?;
                Some(Ndjson::new(file, identifiers, false))
            }
            None => None,
        };
        let mut selectors = Vec::new();
        for request in &requests {
            let start = if request.start == Start::First { None } else { first_turn(settings, request).await };
            selectors.push(Selector::new(Selection::new(options), start));
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        for (call, request) in requests.iter().enumerate() {
            tokio::spawn(live::follow(endpoint.clone(), request.clone(), call, sender.clone()));
        }
        let cursors = options.cursor_file.as_deref().map(CursorFile::open).transpose()?;
        let endings = requests.iter().map(|_| None).collect();
        Ok(Self { receiver, requests, selectors, save, cursors, endings, flags: settings.flags.clone() })
    }

    /// The next updates to show, of one call, with its start; `None` when every stream has ended.
    pub async fn next(&mut self) -> Option<(usize, Vec<Update>, Option<Timestamp>)> {
        let (call, update) = self.receiver.recv().await?;
        if let Update::Ended(ending) = &update {
            self.endings[call] = Some(ending.clone());
        }
        let selector = &mut self.selectors[call];
        let shown = selector.take(update);
        Some((call, shown, selector.start()))
    }

    /// Keeps what was shown: in the saved stream and as the place to go on from.
    pub fn keep(&mut self, call: usize, shown: &[Update], start: Option<Timestamp>) -> Result<()> {
        if let Some(save) = &mut self.save {
            for update in shown {
                save.update(call, update, start)
                    .map_err(|error| Failure::error(format!("cannot write --save: {error}")))?;
            }
        }
        if let Some(cursors) = &mut self.cursors {
            cursors.reached(&self.requests[call].identifier, self.selectors[call].place());
            // While more is waiting, the next round writes it.
            if self.receiver.is_empty() {
                cursors.write()?;
            }
        }
        Ok(())
    }

    /// Where a call's stream stands.
    pub fn place(&self, call: usize) -> live::Place {
        self.selectors[call].place()
    }

    /// The exit code once the streams are over: that of the first that failed, else that of the calls.
    pub fn exit(&self, exit_status: bool) -> Result {
        let endings = || self.endings.iter().flatten();
        if let Some(failure) = endings().find_map(|ending| match &ending.reason {
            EndReason::Failed(failure) => Some(failure),
            _ => None,
        }) {
            return Err(failure.clone());
        }
        let failed = endings().any(|ending| ending.status == Some(CallStatus::Failed));
        Ok(if exit_status && failed { Exit::CallFailed } else { Exit::Ok })
    }

    /// For each call, how to see more of it: what is still to come, or all of it again where it is over.
    pub fn resume_commands(&self) -> Vec<String> {
        let Some(flags) = &self.flags else { return Vec::new() };
        let command = |(call, request): (usize, &Request)| {
            let over = matches!(&self.endings[call], Some(Ending { reason: EndReason::CallEnded, .. }));
            let (words, place) =
                if over { ("see it again", Place::default()) } else { ("go on with", self.place(call)) };
            format!("{words}: {}", live::resume_command(&request.identifier, place, flags))
        };
        self.requests.iter().enumerate().map(command).collect()
    }
}

/// Shows the streams in `sink` until all are over, or the user or a signal ends it.
pub async fn drain(streams: &mut Streams, sink: &mut dyn Sink, settings: &Settings, exit_status: bool) -> Result {
    let mut signals = Signals::listen()?;
    let mut reader = Reader::watch();
    loop {
        let (call, shown, start) = tokio::select! {
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
        for update in &shown {
            sink.update(call, update, start).map_err(|error| Failure::output(&error))?;
        }
        streams.keep(call, &shown, start)?;
    }
}

/// When the first turn of a call was spoken, for streams that do not begin there. Only the times shown depend on it, so a
/// server that does not say is no failure.
async fn first_turn(settings: &Settings, request: &Request) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Events {
        events: Vec<Event>,
    }
    #[derive(Deserialize)]
    struct Event {
        #[serde(default)]
        timestamp: Option<Timestamp>,
    }
    let client = Client::new(settings).ok()?;
    let path = ["api", "v1", "calls", request.identifier.as_str(), "events"];
    let query = [("after", "0".to_owned()), ("limit", "1".to_owned())];
    let events: Events = patiently(Duration::from_secs(2), client.get(&path, &query)).await?.ok()?;
    events.events.first()?.timestamp
}

async fn patiently<T>(patience: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(patience, pin!(work)).await.ok()
}
