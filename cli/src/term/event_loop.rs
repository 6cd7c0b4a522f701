//! The one event loop of every full-screen view, in the style of Elm.
//!
//! A [`Model`] is the state: [`Model::update`] takes an [`Input`] and the time, changes the state and returns the [`Effect`]s to carry
//! out; [`Model::draw`] shows the state. Neither touches a clock, a terminal or a socket. A [`Source`] brings messages and handles the
//! requests of the model. [`run`] joins both with the terminal: it draws at most 30 times a second and only after a change, and it
//! does not wake up while nothing changes.

use std::time::Duration;

use callscope_common::Timestamp;
use crossterm::event::{Event, EventStream, KeyEvent, KeyEventKind};
use futures_util::StreamExt as _;
use ratatui::Frame;
use tokio::time::{Instant, sleep_until};

use super::screen::{self, Screen};
use super::signals::{ScreenSignal, ScreenSignals};
use crate::clock;
use crate::exit::{Failure, Result};

/// The least time between two drawings.
const FRAME: Duration = Duration::from_millis(33);
/// How often time passes for what shows it.
const TICK: Duration = Duration::from_secs(1);

/// What a [`Model`] is told.
#[derive(Debug)]
pub enum Input<M> {
    /// A key was pressed.
    Key(KeyEvent),
    /// Text was pasted: not keys, whatever letters it has.
    Paste(String),
    /// The screen's new columns and rows.
    Resize(u16, u16),
    /// A second went by; only while [`Model::needs_ticks`].
    Tick,
    /// Something came from the [`Source`].
    Message(M),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<W> {
    /// Draw again.
    Draw,
    /// Draw every cell again.
    Redraw,
    /// Leave.
    Quit,
    /// Leave, as interrupted.
    Interrupt,
    /// Stop the process until `fg`.
    Suspend,
    /// Put this into the terminal's clipboard.
    Copy(String),
    /// Something of the source.
    Request(W),
}

/// The state of a full-screen view.
pub trait Model {
    /// What comes from the source.
    type Message;
    /// What is wanted of the source.
    type Request;

    /// Takes an input in at the time `now`.
    fn update(&mut self, input: Input<Self::Message>, now: Timestamp) -> Vec<Effect<Self::Request>>;

    /// Shows the state.
    fn draw(&self, frame: &mut Frame<'_>);

    /// Whether what is shown changes with time alone.
    fn needs_ticks(&self) -> bool;
}

/// What a full-screen view looks at.
pub trait Source {
    /// See [`Model::Message`].
    type Message;
    /// See [`Model::Request`].
    type Request;

    /// The next message; never, where there will be none. Dropped at any `.await`, so it must lose nothing there.
    async fn next(&mut self) -> Result<Self::Message>;

    /// Begins what is wished; what comes of it comes as a message. Does not wait.
    fn handle(&mut self, request: Self::Request) -> Result<()>;

    /// The time it is there.
    fn now(&self) -> Timestamp {
        clock::now()
    }
}

/// How a view was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// By the user.
    Quit,
    /// By Ctrl-C, a signal, or a terminal that went away.
    Interrupted,
}

/// Shows `model` on `screen` until it is left. The terminal is given back on every way out.
pub async fn run<M, W>(mut screen: Screen, model: &mut M, source: &mut W) -> Result<ExitReason>
where
    M: Model,
    W: Source<Message = M::Message, Request = M::Request>,
{
    let (width, height) = screen.size();
    let mut event_loop = EventLoop { screen: &mut screen, model, source, drawn: None, changed: true };
    let left = match event_loop.update(Input::Resize(width, height))? {
        Some(left) => Ok(left),
        None => event_loop.run().await,
    };
    screen.leave();
    left
}

struct EventLoop<'s, M, W> {
    screen: &'s mut Screen,
    model: &'s mut M,
    source: &'s mut W,
    drawn: Option<Instant>,
    changed: bool,
}

impl<M, W> EventLoop<'_, M, W>
where
    M: Model,
    W: Source<Message = M::Message, Request = M::Request>,
{
    async fn run(&mut self) -> Result<ExitReason> {
        let mut terminal = EventStream::new();
        let mut signals = ScreenSignals::listen()?;
        let mut tick = Instant::now() + TICK;
        loop {
            let draw_at = self.drawn.map_or_else(Instant::now, |drawn| drawn + FRAME);
            let input = tokio::select! {
                () = screen::panicked() => {
                    return Err(Failure::error("a part of the program failed; its message is above"));
                }
                () = sleep_until(draw_at), if self.changed => {
                    self.draw()?;
                    continue;
                }
                event = terminal.next() => match event {
                    Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                        #[cfg(debug_assertions)]
                        rehearse(key);
                        Input::Key(key)
                    }
                    Some(Ok(Event::Paste(text))) => Input::Paste(text),
                    Some(Ok(Event::Resize(width, height))) => {
                        let (width, height) = screen::or_default_size((width, height));
                        Input::Resize(width, height)
                    }
                    Some(Ok(_)) => continue,
                    // The terminal is gone.
                    Some(Err(_)) | None => return Ok(ExitReason::Interrupted),
                },
                message = self.source.next() => Input::Message(message?),
                () = sleep_until(tick), if self.model.needs_ticks() => {
                    tick = Instant::now() + TICK;
                    Input::Tick
                }
                signal = signals.next() => match signal {
                    ScreenSignal::End => return Ok(ExitReason::Interrupted),
                    ScreenSignal::Stop => {
                        self.suspend()?;
                        continue;
                    }
                    ScreenSignal::Continued => {
                        self.screen.enter_again()?;
                        let (width, height) = self.screen.size();
                        Input::Resize(width, height)
                    }
                },
            };
            if let Some(left) = self.update(input)? {
                return Ok(left);
            }
        }
    }

    /// Tells the model, and does what it asks for.
    fn update(&mut self, input: Input<M::Message>) -> Result<Option<ExitReason>> {
        for effect in self.model.update(input, self.source.now()) {
            match effect {
                Effect::Draw => self.changed = true,
                Effect::Redraw => {
                    self.screen.invalidate()?;
                    self.changed = true;
                }
                Effect::Quit => return Ok(Some(ExitReason::Quit)),
                Effect::Interrupt => return Ok(Some(ExitReason::Interrupted)),
                Effect::Suspend => self.suspend()?,
                Effect::Copy(text) => self.screen.copy(&text)?,
                Effect::Request(request) => self.source.handle(request)?,
            }
        }
        Ok(None)
    }

    fn draw(&mut self) -> Result<()> {
        self.screen.draw(|frame| self.model.draw(frame))?;
        self.drawn = Some(Instant::now());
        self.changed = false;
        Ok(())
    }

    /// Gives the terminal back and stops the process. It goes on with the signal that says so.
    fn suspend(&mut self) -> Result<()> {
        if super::signals::has_job_control() {
            self.screen.leave();
            super::signals::suspend();
        }
        Ok(())
    }
}

/// Panics on F12 where `CALLSCOPE_REHEARSE` says in which thread: for the tests that look at the terminal afterwards. A
/// build for use has nothing of it.
#[cfg(debug_assertions)]
fn rehearse(key: KeyEvent) {
    if key.code != crossterm::event::KeyCode::F(12) {
        return;
    }
    match std::env::var("CALLSCOPE_REHEARSE").as_deref() {
        Ok("panic") => panic!("rehearsed in the loop"),
        Ok("panic-elsewhere") => drop(std::thread::spawn(|| panic!("rehearsed in a thread"))),
        _ => {}
    }
}
