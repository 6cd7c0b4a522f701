//! The streams of one `tail`, with all that happens to updates before they are shown.

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
use crate::render::behind;
use crate::settings::Settings;
use crate::stream::{self, EndReason, Ending, Endpoint, Inlet, Outlets, Place, Request, Start, Update};

/// How many calls that began may wait to be followed.
const DISCOVER_QUEUE: usize = 256;
/// How often at least the cursor file is written while updates keep coming.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How often new calls are asked for, where all live calls are followed.
const DISCOVER_INTERVAL: Duration = Duration::from_secs(2);

/// The streams.
pub struct Streams {
    endpoint: Endpoint,
    sender: Outlets,
    receiver: Inlet,
    /// Calls that began, where all live calls are followed.
    found: Option<mpsc::Receiver<CallView>>,
    /// What is followed, by number.
    pub requests: Vec<Request>,
    selection: Selection,
    selectors: Vec<Selector>,
    save: Option<SaveFile>,
    cursors: Option<CursorFile>,
    /// When the cursor file was written last.
    written: Instant,
    endings: Vec<Option<Ending>>,
    tasks: Vec<AbortHandle>,
    /// How many streams are not over.
    running: usize,
    flags: Option<String>,
    /// Whether calls that are named later are followed behind their end, and across breaks.
    follow: bool,
    reconnect: bool,
}

/// What comes next.
pub enum StreamEvent {
    /// Another call is followed.
    Opened(usize),
    /// Something to show.
    Updates(Shown),
}

/// Updates of one call.
pub struct Shown {
    /// Its number.
    pub call: usize,
    /// The updates to show; none where all were left out.
    pub updates: Vec<Update>,
    /// When the call began, as far as known.
    pub start: Option<Timestamp>,
    /// How far its stream has come.
    pub place: Place,
}

impl Streams {
    /// Begins to follow `requests`, and with `--active` all that are live and those to come.
    pub async fn open(settings: &Settings, requests: Vec<Request>, options: &Options) -> Result<Self> {
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
            // A server that cannot be asked at all is told at once.
            let live = client.live_calls().await?;
            let (sender, found) = mpsc::channel(DISCOVER_QUEUE);
            tokio::spawn(discover(client, live, sender));
            streams.found = Some(found);
        }
        Ok(streams)
    }

    /// Begins to follow a call; gives its number.
    pub fn follow(&mut self, request: Request, start: Option<Timestamp>) -> Result<usize> {
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

    /// Begins to follow a call from its start, or from where the cursor file says.
    pub fn follow_from_start(&mut self, identifier: Identifier) -> Result<usize> {
        let place = self.cursors.as_ref().and_then(|cursors| cursors.place(&identifier));
        let start = place.map_or(Start::First, Start::After);
        let (follow, reconnect) = (self.follow, self.reconnect);
        self.follow(Request { identifier, start, wait: false, follow, reconnect }, None)
    }

    /// No longer follows a call. What came of it already may still be given out.
    pub fn close(&mut self, call: usize) {
        if self.endings[call].is_none() {
            self.tasks[call].abort();
            self.running -= 1;
            // An end that is on its way already must not count again.
            let place = self.selectors[call].place();
            self.endings[call] = Some(Ending { reason: EndReason::CaughtUp, status: None, place });
        }
    }

    /// What comes next; `None` when every stream has ended and no other will begin. Loses nothing where it is dropped.
    pub async fn next(&mut self) -> Option<StreamEvent> {
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

    /// What came already.
    pub fn try_next(&mut self) -> Option<StreamEvent> {
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
        StreamEvent::Updates(Shown { call, updates, start: selector.start(), place: selector.place() })
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

    /// Keeps what was shown: in the saved stream and as the place to go on from.
    pub fn persist(&mut self, call: usize, shown: &[Update], start: Option<Timestamp>) -> Result<()> {
        if let Some(save) = &mut self.save {
            for update in shown {
                save.update(call, update, start)?;
            }
        }
        if let Some(cursors) = &mut self.cursors {
            cursors.record(&self.requests[call].identifier, self.selectors[call].place());
            // While more is waiting, a later round writes it.
            if self.receiver.is_empty() || self.written.elapsed() >= WRITE_INTERVAL {
                self.written = Instant::now();
                cursors.write()?;
            }
        }
        Ok(())
    }

    /// Writes how far each call was shown, and puts the saved stream in its place; for the end, however it came.
    pub fn finish(&mut self) -> Result<()> {
        let written = self.cursors.as_mut().map_or(Ok(()), CursorFile::write);
        written.and(self.save.take().map_or(Ok(()), SaveFile::finish))
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

    /// For each call, what to type next: what goes on with it, or where it is over, what keeps it.
    pub fn resume_commands(&self) -> Vec<String> {
        /// More would hide what was on the terminal before.
        const MOST: usize = 8;
        let Some(flags) = &self.flags else { return Vec::new() };
        let command = |(call, request): (usize, &Request)| {
            let id = &request.identifier;
            if matches!(&self.endings[call], Some(Ending { reason: EndReason::CallEnded, .. })) {
                return format!("keep it: callscope calls export{flags} {}", behind(id.as_str()));
            }
            format!("go on with: {}", stream::resume_command(id, self.selectors[call].place(), flags))
        };
        self.requests.iter().enumerate().rev().take(MOST).rev().map(command).collect()
    }
}

/// The next call that began; never, where none are looked for.
async fn found(found: &mut Option<mpsc::Receiver<CallView>>) -> CallView {
    if let Some(receiver) = found
        && let Some(view) = receiver.recv().await
    {
        return view;
    }
    std::future::pending().await
}

/// Looks for calls that began, and tells each once. A server that does not answer is asked again: what is followed already
/// says that it is away.
async fn discover(client: Client, mut live: Vec<CallView>, out: mpsc::Sender<CallView>) {
    let mut told: std::collections::HashSet<CallId> = std::collections::HashSet::new();
    loop {
        // Oldest first, in the order they began.
        for call in live.drain(..).rev() {
            if told.insert(call.call_id) && out.send(call).await.is_err() {
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

/// When the first turn of a call was spoken, for streams that do not begin there. Only the times shown depend on it, so a
/// server that does not say is no failure.
async fn first_turn_time(settings: &Settings, request: &Request) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(default)]
        timestamp: Option<Timestamp>,
    }
    let client = Client::new(settings).ok()?;
    let asked = client.events(request.identifier.as_str(), 0, 1);
    let events = patiently(Duration::from_secs(2), asked).await?.ok()?.events;
    serde_json::from_str::<Event>(events.first()?.get()).ok()?.timestamp
}

async fn patiently<T>(patience: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(patience, pin!(work)).await.ok()
}
