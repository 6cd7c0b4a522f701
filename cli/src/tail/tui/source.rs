//! Where messages come from: the streams and the server's API, or a recording.

use std::collections::VecDeque;
use std::future::Future;
use std::io::Write as _;
use std::path::Path;

use callscope_common::{Identifier, Seq, Timestamp};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::app::{self, Live, Message, ReloadTarget, Request, SavePart};
use super::entry::Layout;
use super::event_entries;
use super::event_pages::{self, EventPages};
use crate::api::Client;
use crate::exit::{Failure, Result};
use crate::play::{self, Player};
use crate::state_file::folder_of;
use crate::stream::Update;
use crate::tail::pattern::Pattern;
use crate::tail::{Shown, StreamEvent, Streams};
use crate::term::event_loop::Source;

/// How many messages may wait for the view; whoever answers a request waits then.
const QUEUE: usize = 64;
/// Most updates taken in between two looks at the keys.
const BATCH: usize = 512;
/// Or so many bytes of messages.
const BATCH_BYTES: usize = 4 << 20;

/// Streams, and what the server answers.
pub struct LiveSource<'s> {
    streams: &'s mut Streams,
    client: Client,
    sender: mpsc::Sender<Message>,
    answers: mpsc::Receiver<Message>,
    /// To be told before anything else: that a call is followed comes before what it says.
    first: VecDeque<Message>,
    /// A list of calls was asked for, and is not there yet.
    listing: Option<tokio::task::JoinHandle<()>>,
}

impl<'s> LiveSource<'s> {
    /// Of these streams.
    pub fn new(streams: &'s mut Streams, client: Client) -> Self {
        let (sender, answers) = mpsc::channel(QUEUE);
        Self { streams, client, sender, answers, first: VecDeque::new(), listing: None }
    }

    /// Answers later.
    fn answer(&self, work: impl Future<Output = Option<Message>> + Send + 'static) -> tokio::task::JoinHandle<()> {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            if let Some(message) = work.await {
                // Nobody listens any more only when the view was left.
                let _ = sender.send(message).await;
            }
        })
    }

    /// Gathers what is there, so that a flood of updates is laid out once.
    fn gather(&mut self, first: StreamEvent) -> Result<Message> {
        let (mut news, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(StreamEvent::Updates(shown)) = next {
            bytes += shown.updates.iter().map(size).sum::<usize>();
            news.push(self.keep(shown)?);
            next = if news.len() < BATCH && bytes < BATCH_BYTES { self.streams.try_next() } else { None };
        }
        match next {
            Some(StreamEvent::Opened(call)) if news.is_empty() => Ok(self.opened(call, false)),
            _ => Ok(Message::Live(news)),
        }
    }

    fn keep(&mut self, Shown { call, updates, start, place }: Shown) -> Result<Live> {
        self.streams.persist(call, &updates, start)?;
        Ok(Live { call, shown: updates, start, place })
    }

    /// Reads events again, a page a message, and says when that was all.
    fn load(&self, target: ReloadTarget, ranges: Vec<(Seq, Seq)>) {
        let (client, sender) = (self.client.clone(), self.sender.clone());
        drop(self.answer(async move {
            for range in ranges {
                let mut pages = EventPages::new(&client, &target.id, range);
                loop {
                    match pages.next().await {
                        Ok(Some(page)) => sender.send(Message::Reloaded(target.clone(), Ok(page))).await.ok()?,
                        Ok(None) => break,
                        Err(failure) => return Some(Message::Reloaded(target, Err(failure.message))),
                    }
                }
            }
            Some(Message::Reloaded(target, Ok(Vec::new())))
        }));
    }

    fn opened(&self, call: usize, wanted: bool) -> Message {
        Message::Opened { call, identifier: self.streams.requests[call].identifier.to_string(), wanted }
    }

    fn open(&mut self, id: &str) -> Result<()> {
        // The server named it, so that it need not be an identifier.
        let message = match Identifier::parse(id) {
            Ok(identifier) => {
                let call = self.streams.follow_from_start(identifier)?;
                self.opened(call, true)
            }
            Err(error) => Message::Saved(Err(error.to_string())),
        };
        self.first.push_back(message);
        Ok(())
    }
}

impl Source for LiveSource<'_> {
    type Message = Message;
    type Request = Request;

    async fn next(&mut self) -> Result<Message> {
        if let Some(message) = self.first.pop_front() {
            return Ok(message);
        }
        let next = tokio::select! {
            Some(answer) = self.answers.recv() => return Ok(answer),
            next = async {
                match self.streams.next().await {
                    Some(next) => next,
                    None => std::future::pending().await,
                }
            } => next,
        };
        self.gather(next)
    }

    fn handle(&mut self, request: Request) -> Result<()> {
        match request {
            Request::Open(id) => self.open(&id)?,
            Request::Close(call) => self.streams.close(call),
            Request::Describe(call, id) => {
                let client = self.client.clone();
                // Without it only the agent's name is missing.
                drop(self.answer(async move {
                    Some(Message::Described(call, Box::new(client.call(&id).await.ok()?.value)))
                }));
            }
            Request::List if self.listing.as_ref().is_some_and(|listing| !listing.is_finished()) => {}
            Request::List => {
                let client = self.client.clone();
                self.listing = Some(self.answer(async move {
                    Some(Message::Calls(client.recent_calls().await.map_err(|failure| failure.message)))
                }));
            }
            Request::Save { path, id, parts, text } => {
                drop(self.answer(save(Some(self.client.clone()), path, id, parts, text)));
            }
            Request::Reload(target, ranges) => self.load(target, ranges),
            Request::Scan(target, scan, ranges) => {
                let client = self.client.clone();
                drop(self.answer(async move {
                    let pattern = Pattern::new(&scan.text)?;
                    let found = event_pages::scan(&client, &target.id, &ranges, &pattern).await;
                    Some(Message::Scanned(target, scan, found.map_err(|failure| failure.message)))
                }));
            }
            Request::Pause => {}
        }
        Ok(())
    }
}

fn size(update: &Update) -> usize {
    if let Update::Message(incoming) = update { incoming.raw.len() } else { 0 }
}

/// Writes a new file, whole or not at all; one that is there already is left alone.
async fn save(
    client: Option<Client>,
    path: String,
    id: String,
    parts: Vec<SavePart>,
    text: Option<Layout>,
) -> Option<Message> {
    let saved = match write(client, Path::new(&path), &id, parts, text).await {
        Ok(()) => Ok(format!("saved as {path}")),
        Err(failure) => Err(format!("not saved: {}", failure.message)),
    };
    Some(Message::Saved(saved))
}

async fn write(
    client: Option<Client>,
    path: &Path,
    id: &str,
    parts: Vec<SavePart>,
    text: Option<Layout>,
) -> Result<()> {
    let failed = |error: std::io::Error| Failure::error(error.to_string());
    if path.symlink_metadata().is_ok() {
        return Err(Failure::error("File exists"));
    }
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    let file = tempfile::Builder::new().permissions(permissions).tempfile_in(folder_of(path)).map_err(failed)?;
    let mut file = std::io::BufWriter::new(file);
    for part in parts {
        match (part, &client) {
            (SavePart::Text(ready), _) => file.write_all(ready.as_bytes()).map_err(failed)?,
            (SavePart::Events(after, to), Some(client)) => {
                let mut pages = EventPages::new(client, id, (after, to));
                while let Some(page) = pages.next().await? {
                    let mut lines = String::new();
                    for (_, entries) in page.iter().filter_map(|raw| event_entries::read(raw)) {
                        entries.iter().for_each(|entry| app::write(&mut lines, entry, text.as_ref()));
                    }
                    file.write_all(lines.as_bytes()).map_err(failed)?;
                }
            }
            (SavePart::Events(..), None) => {}
        }
    }
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist_noclobber(path).map(drop).map_err(|error| failed(error.error))
}

/// A recording being played.
pub struct PlaybackSource {
    player: Player,
    sender: mpsc::Sender<Message>,
    answers: mpsc::Receiver<Message>,
}

impl PlaybackSource {
    /// From its beginning.
    pub fn new(player: Player) -> Self {
        let (sender, answers) = mpsc::channel(QUEUE);
        Self { player, sender, answers }
    }
}

impl Source for PlaybackSource {
    type Message = Message;
    type Request = Request;

    async fn next(&mut self) -> Result<Message> {
        let first = tokio::select! {
            Some(answer) = self.answers.recv() => return Ok(answer),
            next = async {
                match self.player.next().await {
                    Some(played) => played,
                    None => std::future::pending().await,
                }
            } => next,
        };
        let rest = std::iter::from_fn(|| self.player.try_next());
        let live = |play::Played { call, update, start, place }| Live { call, shown: vec![update], start, place };
        Ok(Message::Live(std::iter::once(first).chain(rest).take(BATCH).map(live).collect()))
    }

    fn handle(&mut self, request: Request) -> Result<()> {
        let sender = self.sender.clone();
        match request {
            Request::Pause => {
                self.player.toggle_pause(Instant::now());
                let paused = self.player.is_paused();
                tokio::spawn(async move { sender.send(Message::Paused(paused)).await });
            }
            Request::Save { path, id, parts, text } => {
                tokio::spawn(async move {
                    if let Some(message) = save(None, path, id, parts, text).await {
                        let _ = sender.send(message).await;
                    }
                });
            }
            Request::Open(_)
            | Request::Close(_)
            | Request::Describe(..)
            | Request::List
            | Request::Reload(..)
            | Request::Scan(..) => {}
        }
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.player.now(Instant::now())
    }
}
