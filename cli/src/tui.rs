//! The full-screen view.
//!
//! One loop: a key, a message of a stream, a tick or a signal becomes a [`Message`]; [`App::update`], which is pure, turns it
//! into [`Effect`]s; the [`view`] draws from the app alone, at most 30 times a second.

mod app;
mod call;
mod entry;
mod glyph;
mod keys;
mod screen;
mod view;

use std::time::{Duration, SystemTime};

use callscope_common::Timestamp;
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::exit::{Exit, Failure, Result};
use crate::settings::Settings;
use crate::tail::{Signal, Signals, Streams};
use app::{App, Effect, Message};
use screen::Screen;

/// The least time between two drawings.
const FRAME: Duration = Duration::from_millis(33);

/// Shows the streams until the user leaves.
pub async fn run(settings: &Settings, streams: &mut Streams, exit_status: bool) -> Result {
    let identifiers: Vec<String> = streams.requests.iter().map(|request| request.identifier.to_string()).collect();
    let server = crate::client::shown(&settings.server).to_owned();
    let mut screen = Screen::enter()?;
    let app = App::new(server, identifiers, settings.color, screen.size(), now());
    let left = Loop { app, screen: &mut screen, drawn: None, changed: true }.run(streams).await;
    screen.leave();
    let left = left?;
    for command in streams.resume_commands() {
        settings.console.say(command);
    }
    match left {
        Left::Interrupted => Ok(Exit::Interrupted),
        Left::Quit => streams.exit(exit_status),
    }
}

enum Left {
    Quit,
    Interrupted,
}

struct Loop<'s> {
    app: App,
    screen: &'s mut Screen,
    drawn: Option<Instant>,
    changed: bool,
}

impl Loop<'_> {
    async fn run(&mut self, streams: &mut Streams) -> Result<Left> {
        let mut keys = EventStream::new();
        let mut signals = Signals::open()?;
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut streaming = true;
        loop {
            let draw_at = self.drawn.map_or_else(Instant::now, |drawn| drawn + FRAME);
            let message = tokio::select! {
                () = sleep_until(draw_at), if self.changed => {
                    self.draw()?;
                    continue;
                }
                key = keys.next() => match key {
                    Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => Message::Key(key),
                    Some(Ok(Event::Resize(width, height))) => Message::Resize(width, height),
                    Some(Ok(_)) => continue,
                    // The terminal is gone.
                    Some(Err(_)) | None => return Ok(Left::Interrupted),
                },
                next = streams.next(), if streaming => match next {
                    Some((call, shown, start)) => {
                        streams.keep(call, &shown, start)?;
                        Message::Live { call, shown, start, place: streams.place(call) }
                    }
                    None => {
                        streaming = false;
                        continue;
                    }
                },
                _ = ticks.tick() => Message::Tick,
                signal = signals.next() => {
                    let (Signal::Interrupt | Signal::Terminate) = signal;
                    return Ok(Left::Interrupted);
                }
            };
            if screen::panicked() {
                return Err(Failure::error("a part of the program failed; its message is above"));
            }
            for effect in self.app.update(message, now()) {
                match effect {
                    Effect::Draw => self.changed = true,
                    Effect::Quit => return Ok(Left::Quit),
                    Effect::Interrupt => return Ok(Left::Interrupted),
                    Effect::Suspend => self.suspend()?,
                }
            }
        }
    }

    fn draw(&mut self) -> Result<()> {
        self.screen.draw(|frame| view::draw(&self.app, frame.area(), frame.buffer_mut()))?;
        self.drawn = Some(Instant::now());
        self.changed = false;
        Ok(())
    }

    fn suspend(&mut self) -> Result<()> {
        self.screen.suspend()?;
        let (width, height) = self.screen.size();
        self.app.update(Message::Resize(width, height), now());
        self.changed = true;
        Ok(())
    }
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}
