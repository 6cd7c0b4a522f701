//! Where messages come from: the streams and the server's API, or a recording.

use std::collections::VecDeque;
use std::future::Future;
use std::io::Write as _;
use std::path::Path;

use callscope_common::api::CallView;
use callscope_common::{Identifier, Seq, Timestamp};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::app::{self, Asked, Live, Message, Piece, Request};
use super::entry::Columns;
use super::events;
use super::older::{self, Pages};
use crate::api::{Client, recent_calls};
use crate::exit::{Failure, Result};
use crate::play::{self, Player};
use crate::state_file::folder_of;
use crate::stream::Update;
use crate::tail::pattern::Pattern;
use crate::tail::{Next, Shown, Streams};
use crate::term::event_loop::Source;

/// How many messages may wait for the view; whoever answers a request waits then.
const QUEUE: usize = 64;
/// Most updates taken in between two looks at the keys.
const BATCH: usize = 512;
/// Or so many bytes of messages.
const BATCH_BYTES: usize = 4 << 20;

/// Streams, and what the server answers.
pub struct Watch<'s> {
    streams: &'s mut Streams,
    client: Client,
    sender: mpsc::Sender<Message>,
    answers: mpsc::Receiver<Message>,
    /// To be told before anything else: that a call is followed comes before what it says.
    first: VecDeque<Message>,
    /// A list of calls was asked for, and is not there yet.
    listing: Option<tokio::task::JoinHandle<()>>,
}

impl<'s> Watch<'s> {
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
    fn gather(&mut self, first: Next) -> Result<Message> {
        let (mut news, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(Next::Shown(shown)) = next {
            bytes += shown.updates.iter().map(size).sum::<usize>();
            news.push(self.keep(shown)?);
            next = if news.len() < BATCH && bytes < BATCH_BYTES { self.streams.ready() } else { None };
        }
        match next {
            Some(Next::Opened(call)) if news.is_empty() => Ok(self.opened(call, false)),
            _ => Ok(Message::Live(news)),
        }
    }

    fn keep(&mut self, Shown { call, updates, start, place }: Shown) -> Result<Live> {
        self.streams.keep(call, &updates, start)?;
        Ok(Live { call, shown: updates, start, place })
    }

    /// Reads events again, a page a message, and says when that was all.
    fn load(&self, asked: Asked, ranges: Vec<(Seq, Seq)>) {
        let (client, sender) = (self.client.clone(), self.sender.clone());
        drop(self.answer(async move {
            for range in ranges {
                let mut pages = Pages::new(&client, &asked.id, range);
                loop {
                    match pages.next().await {
                        Ok(Some(page)) => sender.send(Message::Older(asked.clone(), Ok(page))).await.ok()?,
                        Ok(None) => break,
                        Err(failure) => return Some(Message::Older(asked, Err(failure.message))),
                    }
                }
            }
            Some(Message::Older(asked, Ok(Vec::new())))
        }));
    }

    fn opened(&self, call: usize, wanted: bool) -> Message {
        Message::Opened { call, identifier: self.streams.requests[call].identifier.to_string(), wanted }
    }

    fn open(&mut self, id: &str) -> Result<()> {
        // The server named it, so that it need not be an identifier.
        let message = match Identifier::parse(id) {
            Ok(identifier) => {
                let call = self.streams.follow_whole(identifier)?;
                self.opened(call, true)
            }
            Err(error) => Message::Saved(Err(error.to_string())),
        };
        self.first.push_back(message);
        Ok(())
    }
}

impl Source for Watch<'_> {
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
                    let view: CallView = client.get(&["api", "v1", "calls", &id], &[]).await.ok()?;
                    Some(Message::Described(call, Box::new(view)))
                }));
            }
            Request::List if self.listing.as_ref().is_some_and(|listing| !listing.is_finished()) => {}
            Request::List => {
                let client = self.client.clone();
                self.listing = Some(self.answer(async move {
                    Some(Message::Calls(recent_calls(&client).await.map_err(|failure| failure.message)))
                }));
            }
            Request::Save { path, id, pieces, text } => {
                drop(self.answer(save(Some(self.client.clone()), path, id, pieces, text)));
            }
            Request::Load(asked, ranges) => self.load(asked, ranges),
            Request::Scan(asked, scan, ranges) => {
                let client = self.client.clone();
                drop(self.answer(async move {
                    let pattern = Pattern::new(&scan.text)?;
                    let found = older::scan(&client, &asked.id, &ranges, &pattern).await;
                    Some(Message::Scanned(asked, scan, found.map_err(|failure| failure.message)))
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
    pieces: Vec<Piece>,
    text: Option<Columns>,
) -> Option<Message> {
    let saved = match write(client, Path::new(&path), &id, pieces, text).await {
        Ok(()) => Ok(format!("saved as {path}")),
        Err(failure) => Err(format!("not saved: {}", failure.message)),
    };
    Some(Message::Saved(saved))
}

async fn write(client: Option<Client>, path: &Path, id: &str, pieces: Vec<Piece>, text: Option<Columns>) -> Result<()> {
    let failed = |error: std::io::Error| Failure::error(error.to_string());
    if path.symlink_metadata().is_ok() {
        return Err(Failure::error("File exists"));
    }
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    let file = tempfile::Builder::new().permissions(permissions).tempfile_in(folder_of(path)).map_err(failed)?;
    let mut file = std::io::BufWriter::new(file);
    for piece in pieces {
        match (piece, &client) {
            (Piece::Ready(ready), _) => file.write_all(ready.as_bytes()).map_err(failed)?,
            (Piece::Events(after, to), Some(client)) => {
                let mut pages = Pages::new(client, id, (after, to));
                while let Some(page) = pages.next().await? {
                    let mut lines = String::new();
                    for (_, entries) in page.iter().filter_map(|raw| events::read(raw)) {
                        entries.iter().for_each(|entry| app::write(&mut lines, entry, text.as_ref()));
                    }
                    file.write_all(lines.as_bytes()).map_err(failed)?;
                }
            }
            (Piece::Events(..), None) => {}
        }
    }
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist_noclobber(path).map(drop).map_err(|error| failed(error.error))
}

/// A recording being played.
pub struct Played {
    player: Player,
    sender: mpsc::Sender<Message>,
    answers: mpsc::Receiver<Message>,
}

impl Played {
    /// From its beginning.
    pub fn new(player: Player) -> Self {
        let (sender, answers) = mpsc::channel(QUEUE);
        Self { player, sender, answers }
    }
}

impl Source for Played {
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
        let rest = std::iter::from_fn(|| self.player.ready());
        let live = |play::Played { call, update, start, place }| Live { call, shown: vec![update], start, place };
        Ok(Message::Live(std::iter::once(first).chain(rest).take(BATCH).map(live).collect()))
    }

    fn handle(&mut self, request: Request) -> Result<()> {
        let sender = self.sender.clone();
        match request {
            Request::Pause => {
                self.player.pause(Instant::now());
                let paused = self.player.is_paused();
                tokio::spawn(async move { sender.send(Message::Paused(paused)).await });
            }
            Request::Save { path, id, pieces, text } => {
                tokio::spawn(async move {
                    if let Some(message) = save(None, path, id, pieces, text).await {
                        let _ = sender.send(message).await;
                    }
                });
            }
            Request::Open(_)
            | Request::Close(_)
            | Request::Describe(..)
            | Request::List
            | Request::Load(..)
            | Request::Scan(..) => {}
        }
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.player.now(Instant::now())
    }
}
