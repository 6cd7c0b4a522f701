//! The streams of all calls that one `tail` follows.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use callscope_common::api::CallView;
use callscope_common::{CallId, CallStatus, Identifier, Timestamp};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::{CursorFile, Options, SaveFile, Selection, Selector};
use crate::api::Client;
use crate::exit::{Exit, Result};
use crate::render::last_argument;
use crate::settings::Settings;
use crate::stream::{self, CallUpdates, EndReason, Ending, Endpoint, Inlet, Outlets, Request, Start, Update};

/// How many discovered calls may wait to be followed.
const DISCOVER_QUEUE: usize = 256;
/// Longest time for which the cursor file is not written while updates keep coming.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two requests for live calls with `--active`.
const DISCOVER_INTERVAL: Duration = Duration::from_secs(2);

/// All followed calls, by number.
pub(crate) struct Streams {
    endpoint: Endpoint,
    sender: Outlets,
    receiver: Inlet,
    /// Calls that were discovered; only with `--active`.
    found: Option<mpsc::Receiver<CallView>>,
    /// The followed calls, by number.
    pub(crate) requests: Vec<Request>,
    selection: Selection,
    selectors: Vec<Selector>,
    save: Option<SaveFile>,
    cursors: Option<CursorFile>,
    /// When the cursor file was last written.
    written: Instant,
    endings: Vec<Option<Ending>>,
    tasks: Vec<AbortHandle>,
    /// How many streams have not ended.
    running: usize,
    flags: Option<String>,
    /// How calls that are named later are followed: behind the end of their log, and across broken connections.
    follow: bool,
    reconnect: bool,
}

pub(crate) enum StreamEvent {
    /// Another call is followed, by its number.
    Opened(usize),
    Updates(CallUpdates),
}

impl Streams {
    /// Starts to follow `requests`, and with `--active` all calls that are live now or later.
    pub(crate) async fn open(settings: &Settings, requests: Vec<Request>, options: &Options) -> Result<Self> {
        let save = options.save.as_deref().map(|path| SaveFile::new(path, options.force)).transpose()?;
        let (sender, receiver) = stream::queue();
        let mut streams = Self {
            endpoint: Endpoint::new(settings),
            sender,
            receiver,
            found: None,
            requests: Vec::new(),
            selection: options.selection.clone(),
            selectors: Vec::new(),
            save,
            cursors: options.cursor_file.as_deref().map(CursorFile::open).transpose()?,
            written: Instant::now(),
            endings: Vec::new(),
            tasks: Vec::new(),
            running: 0,
            flags: settings.flags.clone(),
            follow: options.follow,
            reconnect: options.reconnect,
        };
        for request in requests {
            let start = if request.start == Start::First { None } else { first_turn_time(settings, &request).await };
            streams.follow(request, start)?;
        }
        if options.active {
            let client = Client::new(settings)?;
            // A server that cannot be asked at all is an error at once.
            let live = client.live_calls().await?;
            let (sender, found) = mpsc::channel(DISCOVER_QUEUE);
            tokio::spawn(discover(client, live, sender));
            streams.found = Some(found);
        }
        Ok(streams)
    }

    /// Starts to follow a call and returns its number.
    pub(crate) fn follow(&mut self, request: Request, start: Option<Timestamp>) -> Result<usize> {
        let call = self.requests.len();
        if let Some(save) = &mut self.save {
            save.opened(&request.identifier)?;
        }
        let following = stream::follow(self.endpoint.clone(), request.clone(), call, self.sender.clone());
        self.tasks.push(tokio::spawn(following).abort_handle());
        self.selectors.push(Selector::new(self.selection.clone(), start));
        self.requests.push(request);
        self.endings.push(None);
        self.running += 1;
        Ok(call)
    }

    /// Starts to follow a call from its start, or from the place in the cursor file.
    pub(crate) fn follow_from_start(&mut self, identifier: Identifier) -> Result<usize> {
        let place = self.cursors.as_ref().and_then(|cursors| cursors.place(&identifier));
        let start = place.map_or(Start::First, Start::After);
        let (follow, reconnect) = (self.follow, self.reconnect);
        self.follow(Request { identifier, start, wait: false, follow, reconnect }, None)
    }

    /// Stops following a call. Updates that already came may still be returned.
    pub(crate) fn close(&mut self, call: usize) {
        if self.endings[call].is_none() {
            self.tasks[call].abort();
            self.running -= 1;
            // An end that is already in the queue must not be counted again.
            let place = self.selectors[call].progress.place;
            self.endings[call] = Some(Ending { reason: EndReason::CaughtUp, status: None, place });
        }
    }

    /// Waits for the next event. Returns `None` when every stream has ended and no other will begin. Dropping the
    /// future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<StreamEvent> {
        loop {
            if self.running == 0 && self.found.is_none() {
                return self.try_next();
            }
            tokio::select! {
                item = self.receiver.next() => return item.map(|item| self.take(item)),
                found = found(&mut self.found) => {
                    if let Some(next) = self.found(&found) {
                        return Some(next);
                    }
                }
            }
        }
    }

    /// Returns the next event if it already came.
    pub(crate) fn try_next(&mut self) -> Option<StreamEvent> {
        let item = self.receiver.ready()?;
        Some(self.take(item))
    }

    fn take(&mut self, (call, update): (usize, Update)) -> StreamEvent {
        if let Update::Ended(ending) = &update
            && self.endings[call].is_none()
        {
            self.running -= 1;
            self.endings[call] = Some(ending.clone());
        }
        let selector = &mut self.selectors[call];
        let updates = selector.take(update);
        StreamEvent::Updates(CallUpdates { call, updates, progress: selector.progress })
    }

    fn found(&mut self, view: &CallView) -> Option<StreamEvent> {
        let named = |request: &Request| {
            let name = request.identifier.as_str();
            name == view.call_sid || view.identifiers.iter().any(|identifier| identifier == name)
        };
        if self.requests.iter().any(named) {
            return None;
        }
        let identifier = Identifier::parse(&view.call_sid).ok()?;
        self.follow_from_start(identifier).ok().map(StreamEvent::Opened)
    }

    /// Saves the updates that were shown, and their place in the cursor file.
    pub(crate) fn persist(&mut self, shown: &CallUpdates) -> Result<()> {
        let CallUpdates { call, updates, progress } = shown;
        if let Some(save) = &mut self.save {
            for update in updates {
                save.update(*call, update, progress.start)?;
            }
        }
        if let Some(cursors) = &mut self.cursors {
            cursors.record(&self.requests[*call].identifier, self.selectors[*call].progress.place);
            // While more updates wait, the file is written after one of them.
            if self.receiver.is_empty() || self.written.elapsed() >= WRITE_INTERVAL {
                self.written = Instant::now();
                cursors.write()?;
            }
        }
        Ok(())
    }

    /// Writes the cursor file and completes the saved stream. Call it at the end of the program, also after an error.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let written = self.cursors.as_mut().map_or(Ok(()), CursorFile::write);
        written.and(self.save.take().map_or(Ok(()), SaveFile::finish))
    }

    /// Returns the exit code of the program: the failure of the first stream that failed, else the status of the calls.
    pub(crate) fn exit(&self, exit_status: bool) -> Result {
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

    /// Returns a command for each call: one that resumes it, or one that exports it once it has ended.
    pub(crate) fn resume_commands(&self) -> Vec<String> {
        /// More lines would scroll away what was on the terminal before.
        const MAX_COMMANDS: usize = 8;
        let Some(flags) = &self.flags else { return Vec::new() };
        let command = |(call, request): (usize, &Request)| {
            let id = &request.identifier;
            if matches!(&self.endings[call], Some(Ending { reason: EndReason::CallEnded, .. })) {
                return format!("keep it: callscope calls export{flags} {}", last_argument(id.as_str()));
            }
            format!("go on with: {}", stream::resume_command(id, self.selectors[call].progress.place, flags))
        };
        self.requests.iter().enumerate().rev().take(MAX_COMMANDS).rev().map(command).collect()
    }
}

/// Waits for the next discovered call, or forever where calls are not discovered.
async fn found(found: &mut Option<mpsc::Receiver<CallView>>) -> CallView {
    if let Some(receiver) = found
        && let Some(view) = receiver.recv().await
    {
        return view;
    }
    std::future::pending().await
}

/// Sends each live call once. A server that does not answer is asked again without a message, since the streams report
/// that it is away.
async fn discover(client: Client, mut live: Vec<CallView>, out: mpsc::Sender<CallView>) {
    let mut sent: std::collections::HashSet<CallId> = std::collections::HashSet::new();
    loop {
        // The server lists the newest call first.
        for call in live.drain(..).rev() {
            if sent.insert(call.call_id) && out.send(call).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(DISCOVER_INTERVAL) => {}
            () = out.closed() => return,
        }
        live = client.live_calls().await.unwrap_or_default();
    }
}

/// Asks when the first turn of a call was spoken, for a stream that does not begin there. Only the times on the screen
/// depend on the answer, so a failure is ignored.
async fn first_turn_time(settings: &Settings, request: &Request) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(default)]
        timestamp: Option<Timestamp>,
    }
    let client = Client::new(settings).ok()?;
    let asked = client.events(request.identifier.as_str(), 0, 1);
    let events = within(Duration::from_secs(2), asked).await?.ok()?.events;
    serde_json::from_str::<Event>(events.first()?.get()).ok()?.timestamp
}

async fn within<T>(patience: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(patience, pin!(work)).await.ok()
}
