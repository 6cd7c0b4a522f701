//! The event loop of every full-screen view, in the style of Elm.
//!
//! A [`Model`] is the state: [`Model::update`] takes an [`Input`] and the time, changes the state and returns the
//! [`Effect`]s to carry out; [`Model::draw`] shows the state. Neither touches a clock, a terminal or a socket. A
//! [`Source`] brings messages and handles the requests of the model. [`run`] joins both with the terminal. It draws at
//! most 30 times a second and only after a change, and it does not wake up while nothing changes.

use std::time::Duration;

use callscope_common::Timestamp;
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::StreamExt as _;
use ratatui::Frame;
use tokio::time::{Instant, sleep_until};

use super::screen::{self, Screen};
use super::signals::{ScreenSignal, ScreenSignals};
use crate::clock;
use crate::exit::{Failure, Result};

/// Shortest time between two frames.
const MIN_FRAME_INTERVAL: Duration = Duration::from_millis(33);
/// Time between two [`Input::Tick`]s.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// An input to a [`Model`].
#[derive(Debug)]
pub(crate) enum Input<M> {
    Key(KeyEvent),
    /// Text was pasted. It is never read as keys.
    Paste(String),
    /// The new columns and rows of the screen.
    Resize(u16, u16),
    /// A second went by. There are ticks only while [`Model::needs_ticks`].
    Tick,
    /// A message of the [`Source`].
    Message(M),
}

/// What the event loop does for a [`Model`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect<W> {
    Draw,
    /// Draw every cell again, also those that did not change.
    Redraw,
    Quit,
    /// Leave as after Ctrl-C.
    Interrupt,
    /// Stop the process until `fg`.
    Suspend,
    /// Put a text into the clipboard of the terminal.
    Copy(String),
    /// Pass a request to the [`Source`].
    Request(W),
}

impl<W> Effect<W> {
    /// Returns what Ctrl and a letter ask for in every view.
    pub(crate) fn of_control(key: KeyEvent) -> Option<Self> {
        match key.code {
            _ if !key.modifiers.contains(KeyModifiers::CONTROL) => None,
            KeyCode::Char('c') => Some(Self::Interrupt),
            KeyCode::Char('z') => Some(Self::Suspend),
            KeyCode::Char('l') => Some(Self::Redraw),
            _ => None,
        }
    }
}

/// The state of a full-screen view.
pub(crate) trait Model {
    /// What the source reports.
    type Message;
    /// What the model asks of the source.
    type Request;

    /// Changes the state by an input at the time `now`, and returns what to do.
    fn update(&mut self, input: Input<Self::Message>, now: Timestamp) -> Vec<Effect<Self::Request>>;

    fn draw(&self, frame: &mut Frame<'_>);

    /// Returns whether what is shown changes with time alone.
    fn needs_ticks(&self) -> bool;
}

/// The world outside a [`Model`]: a server, or a recording.
pub(crate) trait Source {
    type Message;
    type Request;

    /// Returns the next message, or waits forever where there will be none. It is dropped at any `.await` and must lose
    /// nothing there.
    async fn next(&mut self) -> Result<Self::Message>;

    /// Begins to handle a request and does not wait. The answer comes as a message.
    fn handle(&mut self, request: Self::Request) -> Result<()>;

    /// The time that the model is told.
    fn now(&self) -> Timestamp {
        clock::now()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitReason {
    /// The user left.
    Quit,
    /// Ctrl-C or a signal ended the view, or the terminal went away.
    Interrupted,
}

/// Shows `model` on `screen` until the user leaves. The terminal is restored on every way out.
pub(crate) async fn run<M, W>(mut screen: Screen, model: &mut M, source: &mut W) -> Result<ExitReason>
where
    M: Model,
    W: Source<Message = M::Message, Request = M::Request>,
{
    let (width, height) = screen.size();
    let mut event_loop = EventLoop { screen: &mut screen, model, source, drawn_at: None, needs_draw: true };
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
    drawn_at: Option<Instant>,
    needs_draw: bool,
}

impl<M, W> EventLoop<'_, M, W>
where
    M: Model,
    W: Source<Message = M::Message, Request = M::Request>,
{
    async fn run(&mut self) -> Result<ExitReason> {
        let mut terminal = EventStream::new();
        let mut signals = ScreenSignals::listen()?;
        let mut tick = Instant::now() + TICK_INTERVAL;
        loop {
            let draw_at = self.drawn_at.map_or_else(Instant::now, |drawn| drawn + MIN_FRAME_INTERVAL);
            let input = tokio::select! {
                () = screen::panicked() => {
                    return Err(Failure::error("a part of the program failed; its message is above"));
                }
                () = sleep_until(draw_at), if self.needs_draw => {
                    self.draw()?;
                    continue;
                }
                event = terminal.next() => match event {
                    Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => Input::Key(key),
                    Some(Ok(Event::Paste(text))) => Input::Paste(text),
                    Some(Ok(Event::Resize(width, height))) => {
                        let (width, height) = screen::or_default_size((width, height));
                        Input::Resize(width, height)
                    }
                    Some(Ok(_)) => continue,
                    // The terminal went away.
                    Some(Err(_)) | None => return Ok(ExitReason::Interrupted),
                },
                message = self.source.next() => Input::Message(message?),
                () = sleep_until(tick), if self.model.needs_ticks() => {
                    tick = Instant::now() + TICK_INTERVAL;
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

    /// Passes an input to the model and carries the effects out.
    fn update(&mut self, input: Input<M::Message>) -> Result<Option<ExitReason>> {
        for effect in self.model.update(input, self.source.now()) {
            match effect {
                Effect::Draw => self.needs_draw = true,
                Effect::Redraw => {
                    self.screen.invalidate()?;
                    self.needs_draw = true;
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
        self.drawn_at = Some(Instant::now());
        self.needs_draw = false;
        Ok(())
    }

    /// Restores the terminal and stops the process. SIGCONT takes the screen again.
    fn suspend(&mut self) -> Result<()> {
        if super::signals::has_job_control() {
            self.screen.leave();
            super::signals::suspend();
        }
        Ok(())
    }
}
