//! The full-screen view.
//!
//! [`stage`] joins a state with the terminal, and [`screen`] keeps the promise to give it back; both serve every view.
//! [`App`] is the state of `tail`, and the [`view`] draws it.

mod app;
mod call;
mod entry;
mod glyph;
mod keys;
pub mod screen;
mod signals;
pub mod stage;
mod view;

use std::convert::Infallible;
use std::time::SystemTime;

use callscope_common::Timestamp;

use crate::exit::{Exit, Result};
use crate::settings::Settings;
use crate::tail::Streams;
use app::{App, Live};
use screen::Screen;
use stage::{Left, World};

/// Shows the streams until the user leaves.
pub async fn run(settings: &Settings, streams: &mut Streams, exit_status: bool) -> Result {
    let identifiers: Vec<String> = streams.requests.iter().map(|request| request.identifier.to_string()).collect();
    let server = crate::client::shown(&settings.server).to_owned();
    let screen = Screen::enter()?;
    let now = Timestamp::from_system_time(SystemTime::now());
    let mut app = App::new(server, identifiers, settings.color, screen.size(), now);
    let left = stage::run(screen, &mut app, streams).await?;
    for command in streams.resume_commands() {
        settings.console.say(command);
    }
    match left {
        Left::Interrupted => Ok(Exit::Interrupted),
        Left::Quit => streams.exit(exit_status),
    }
}

impl World for Streams {
    type Message = Live;
    type Wish = Infallible;

    async fn next(&mut self) -> Result<Live> {
        match Streams::next(self).await {
            Some((call, shown, start)) => {
                self.keep(call, &shown, start)?;
                Ok(Live { call, shown, start, place: self.place(call) })
            }
            None => std::future::pending().await,
        }
    }

    fn grant(&mut self, wish: Infallible) -> Result<()> {
        match wish {}
    }
}
