//! Where messages come from: the streams and the server's API, or a recording.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::future::Future;
use std::io::Write as _;

use callscope_common::api::CallView;
use callscope_common::{Identifier, Timestamp};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::app::{Live, Message, Wish};
use super::stage::World;
use crate::client::Client;
use crate::exit::Result;
use crate::play::{self, Player};
use crate::tail::{Next, Shown, Streams, recent_calls};

/// How many messages may wait for the view; whoever answers a wish waits then.
const QUEUE: usize = 64;
/// Most updates taken in between two looks at the keys.
const BATCH: usize = 512;

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
        let mut news = Vec::new();
        let mut next = Some(first);
        while let Some(Next::Shown(shown)) = next {
            news.push(self.keep(shown)?);
            next = if news.len() < BATCH { self.streams.ready() } else { None };
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

impl World for Watch<'_> {
    type Message = Message;
    type Wish = Wish;

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

    fn grant(&mut self, wish: Wish) -> Result<()> {
        match wish {
            Wish::Open(id) => self.open(&id)?,
            Wish::Close(call) => self.streams.close(call),
            Wish::Describe(call, id) => {
                let client = self.client.clone();
                // Without it only the agent's name is missing.
                drop(self.answer(async move {
                    let view: CallView = client.get(&["api", "v1", "calls", &id], &[]).await.ok()?;
                    Some(Message::Described(call, Box::new(view)))
                }));
            }
            Wish::List if self.listing.as_ref().is_some_and(|listing| !listing.is_finished()) => {}
            Wish::List => {
                let client = self.client.clone();
                self.listing = Some(self.answer(async move {
                    Some(Message::Calls(recent_calls(&client).await.map_err(|failure| failure.message)))
                }));
            }
            Wish::Save { path, content } => drop(self.answer(save(path, content))),
            Wish::Pause => {}
        }
        Ok(())
    }
}

/// Writes a new file; one that is there already is left alone.
async fn save(path: String, content: String) -> Option<Message> {
    let write = move || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.write_all(content.as_bytes())?;
        Ok::<_, std::io::Error>(path)
    };
    let saved = match tokio::task::spawn_blocking(write).await.ok()? {
        Ok(path) => Ok(format!("saved as {path}")),
        Err(error) => Err(format!("not saved: {error}")),
    };
    Some(Message::Saved(saved))
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

impl World for Played {
    type Message = Message;
    type Wish = Wish;

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

    fn grant(&mut self, wish: Wish) -> Result<()> {
        let sender = self.sender.clone();
        match wish {
            Wish::Pause => {
                self.player.pause(Instant::now());
                let paused = self.player.is_paused();
                tokio::spawn(async move { sender.send(Message::Paused(paused)).await });
            }
            Wish::Save { path, content } => {
                tokio::spawn(async move {
                    if let Some(message) = save(path, content).await {
                        let _ = sender.send(message).await;
                    }
                });
            }
            Wish::Open(_) | Wish::Close(_) | Wish::Describe(..) | Wish::List => {}
        }
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.player.now(Instant::now())
    }
}
