//! The one event loop of every full-screen view.
//!
//! A [`Model`] is the state: [`Model::update`] takes an [`Input`] and the time, changes the state and says with [`Effect`]s
//! what is to be done; [`Model::draw`] shows it. Neither touches a clock, a terminal or a socket. A [`World`] is where
//! messages come from, and what grants the wishes that are not the terminal's. [`run`] joins both with the terminal: at most
//! 30 drawings a second, none while nothing changed, and no wake-up while nothing moves.

use std::time::{Duration, SystemTime};

use callscope_common::Timestamp;
use crossterm::event::{Event, EventStream, KeyEvent, KeyEventKind};
use futures_util::StreamExt as _;
use ratatui::Frame;
use tokio::time::{Instant, sleep_until};

use super::screen::{self, Screen};
use super::signals::{ScreenSignal, ScreenSignals};
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
    /// A second went by; only while [`Model::moves`].
    Tick,
    /// Something came from the [`World`].
    World(M),
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
    /// Something of the world.
    Wish(W),
}

/// The state of a full-screen view.
pub trait Model {
    /// What comes from the world.
    type Message;
    /// What is wanted of the world.
    type Wish;

    /// Takes an input in at the time `now`.
    fn update(&mut self, input: Input<Self::Message>, now: Timestamp) -> Vec<Effect<Self::Wish>>;

    /// Shows the state.
    fn draw(&self, frame: &mut Frame<'_>);

    /// Whether what is shown changes with time alone.
    fn moves(&self) -> bool;
}

/// What a full-screen view looks at.
pub trait World {
    /// See [`Model::Message`].
    type Message;
    /// See [`Model::Wish`].
    type Wish;

    /// The next message; never, where there will be none. Dropped at any `.await`, so it must lose nothing there.
    async fn next(&mut self) -> Result<Self::Message>;

    /// Begins what is wished; what comes of it comes as a message. Does not wait.
    fn grant(&mut self, wish: Self::Wish) -> Result<()>;

    /// The time it is there.
    fn now(&self) -> Timestamp {
        Timestamp::from_system_time(SystemTime::now())
    }
}

/// How a view was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// By the user.
    Quit,
    /// By Ctrl-C, a signal, or a terminal that went away.
    Interrupted,
}

/// Shows `model` on `screen` until it is left. The terminal is given back on every way out.
pub async fn run<M, W>(mut screen: Screen, model: &mut M, world: &mut W) -> Result<Left>
where
    M: Model,
    W: World<Message = M::Message, Wish = M::Wish>,
{
    let (width, height) = screen.size();
    let mut stage = Stage { screen: &mut screen, model, world, drawn: None, changed: true };
    let left = match stage.tell(Input::Resize(width, height))? {
        Some(left) => Ok(left),
        None => stage.run().await,
    };
    screen.leave();
    left
}

struct Stage<'s, M, W> {
    screen: &'s mut Screen,
    model: &'s mut M,
    world: &'s mut W,
    drawn: Option<Instant>,
    changed: bool,
}

impl<M, W> Stage<'_, M, W>
where
    M: Model,
    W: World<Message = M::Message, Wish = M::Wish>,
{
    async fn run(&mut self) -> Result<Left> {
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
                        let (width, height) = screen::known((width, height));
                        Input::Resize(width, height)
                    }
                    Some(Ok(_)) => continue,
                    // The terminal is gone.
                    Some(Err(_)) | None => return Ok(Left::Interrupted),
                },
                message = self.world.next() => Input::World(message?),
                () = sleep_until(tick), if self.model.moves() => {
                    tick = Instant::now() + TICK;
                    Input::Tick
                }
                signal = signals.next() => match signal {
                    ScreenSignal::End => return Ok(Left::Interrupted),
                    ScreenSignal::Stop => {
                        self.stop()?;
                        continue;
                    }
                    ScreenSignal::Continued => {
                        self.screen.take_again()?;
                        let (width, height) = self.screen.size();
                        Input::Resize(width, height)
                    }
                },
            };
            if let Some(left) = self.tell(input)? {
                return Ok(left);
            }
        }
    }

    /// Tells the model, and does what it asks for.
    fn tell(&mut self, input: Input<M::Message>) -> Result<Option<Left>> {
        for effect in self.model.update(input, self.world.now()) {
            match effect {
                Effect::Draw => self.changed = true,
                Effect::Redraw => {
                    self.screen.forget()?;
                    self.changed = true;
                }
                Effect::Quit => return Ok(Some(Left::Quit)),
                Effect::Interrupt => return Ok(Some(Left::Interrupted)),
                Effect::Suspend => self.stop()?,
                Effect::Copy(text) => self.screen.copy(&text)?,
                Effect::Wish(wish) => self.world.grant(wish)?,
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
    fn stop(&mut self) -> Result<()> {
        if super::signals::can_be_woken() {
            self.screen.leave();
            super::signals::stop();
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
