//! The source of a live view: the streams and the server's API.

use std::collections::VecDeque;
use std::future::Future;

use callscope_common::{Identifier, Seq};
use tokio::sync::mpsc;

use super::app::{Message, ReloadTarget, Request};
use super::event_pages::{self, EventPages};
use crate::api::Client;
use crate::exit::Result;
use crate::stream::Update;
use crate::tail::pattern::Pattern;
use crate::tail::{StreamEvent, Streams};
use crate::term::event_loop::Source;

/// How many answers may wait for the view.
const ANSWER_QUEUE: usize = 64;
/// Most groups of updates that are taken in between two looks at the keys.
const MAX_BATCH: usize = 512;
/// Most bytes of messages that are taken in between two looks at the keys.
const MAX_BATCH_BYTES: usize = 4 << 20;

pub(crate) struct LiveSource<'s> {
    streams: &'s mut Streams,
    client: Client,
    sender: mpsc::Sender<Message>,
    answers: mpsc::Receiver<Message>,
    /// Messages that come before any other: a call must be opened before its updates.
    first: VecDeque<Message>,
    /// The request for the list of calls, until its answer has come.
    listing: Option<tokio::task::JoinHandle<()>>,
}

impl<'s> LiveSource<'s> {
    pub(crate) fn new(streams: &'s mut Streams, client: Client) -> Self {
        let (sender, answers) = mpsc::channel(ANSWER_QUEUE);
        Self { streams, client, sender, answers, first: VecDeque::new(), listing: None }
    }

    /// Sends the answer to a request when it is ready.
    fn answer(&self, work: impl Future<Output = Option<Message>> + Send + 'static) -> tokio::task::JoinHandle<()> {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            if let Some(message) = work.await {
                // The receiver is gone only when the view has been left.
                let _ = sender.send(message).await;
            }
        })
    }

    /// Collects the updates that already came, so that a burst of them is laid out once.
    fn gather(&mut self, first: StreamEvent) -> Result<Message> {
        let (mut news, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(StreamEvent::Updates(shown)) = next {
            bytes += shown.updates.iter().map(size).sum::<usize>();
            self.streams.persist(&shown)?;
            news.push(shown);
            next = if news.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES { self.streams.try_next() } else { None };
        }
        match next {
            Some(StreamEvent::Opened(call)) if news.is_empty() => Ok(self.opened(call, false)),
            _ => Ok(Message::Updates(news)),
        }
    }

    /// Reads events again and sends a message for each page. An empty page comes last.
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
        // The name comes from the server's list, so it may not be a valid identifier.
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
                // Without an answer, only the name of the agent is missing.
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
            Request::Save(save) => {
                let client = self.client.clone();
                drop(self.answer(async move { Some(Message::Saved(save.save(Some(client)).await)) }));
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
