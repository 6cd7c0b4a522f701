//! A saved tail in the full-screen view of `tail`.

use std::path::Path;

use callscope_common::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Player, SavedTail};
use crate::exit::{Exit, Result};
use crate::settings::Settings;
use crate::speed::Speed;
use crate::tail::tui::{Message, Origin, Request, TailApp};
use crate::term::event_loop::{self, ExitReason, Source};
use crate::term::screen::Screen;

/// How many answers to requests may wait for the view.
const ANSWER_QUEUE: usize = 64;
/// Most updates that are taken in between two looks at the keys.
const MAX_BATCH: usize = 512;

/// Plays a saved tail until the user leaves.
pub(crate) async fn run(settings: &Settings, recording: SavedTail, file: &Path, speed: Speed) -> Result {
    let identifiers = recording.identifiers.iter().map(ToString::to_string).collect();
    let origin = Origin::Recording { file: file.to_string_lossy().into_owned(), speed: speed.to_string() };
    let mut source = PlaybackSource::new(Player::new(recording, speed, Instant::now()));
    let mut app = TailApp::new(origin, identifiers, false, settings.color, source.now());
    Ok(match event_loop::run(Screen::enter()?, &mut app, &mut source).await? {
        ExitReason::Interrupted => Exit::Interrupted,
        ExitReason::Quit => Exit::Ok,
    })
}

/// A saved tail that is being played.
struct PlaybackSource {
    player: Player,
    sender: mpsc::Sender<Message>,
    answers: mpsc::Receiver<Message>,
}

impl PlaybackSource {
    fn new(player: Player) -> Self {
        let (sender, answers) = mpsc::channel(ANSWER_QUEUE);
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
        Ok(Message::Updates(std::iter::once(first).chain(rest).take(MAX_BATCH).collect()))
    }

    fn handle(&mut self, request: Request) -> Result<()> {
        let sender = self.sender.clone();
        match request {
            Request::Pause => {
                self.player.toggle_pause(Instant::now());
                let paused = self.player.is_paused();
                tokio::spawn(async move { sender.send(Message::Paused(paused)).await });
            }
            Request::Save(save) => {
                tokio::spawn(async move { sender.send(Message::Saved(save.save(None).await)).await });
            }
            // A recording has no server to be asked.
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
