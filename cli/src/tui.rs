//! The full-screen views.
//!
//! [`stage`] joins a state with the terminal, and [`screen`] keeps the promise to give it back; both serve every view, as do
//! [`palette`], [`mod@line`], [`glyph`] and the pieces of [`view`]. [`App`] is the state of `tail` and `play`, [`world`] is where
//! their messages come from.

mod app;
mod entry;
mod events;
pub mod glyph;
mod json;
mod keys;
pub mod line;
mod older;
pub mod palette;
pub mod pattern;
mod picker;
mod raw;
mod rows;
pub mod screen;
mod signals;
pub mod stage;
mod tab;
mod transcript;
pub mod view;
mod world;

use std::path::Path;
use std::time::SystemTime;

use callscope_common::Timestamp;
use tokio::time::Instant;

use crate::args;
use crate::client::Client;
use crate::exit::{Exit, Result};
use crate::play::{Player, Recording};
use crate::replay::Speed;
use crate::settings::Settings;
use crate::tail::Streams;
use app::{App, Source};
pub use keys::HELP;
use screen::Screen;
use stage::Left;
use world::{Played, Watch};

/// Shows the streams until the user leaves.
pub async fn run(settings: &Settings, streams: &mut Streams, options: &args::Tail) -> Result {
    let identifiers = streams.requests.iter().map(|request| request.identifier.to_string()).collect();
    let source = Source::Server(crate::client::shown(&settings.server).to_owned());
    let mut app = App::new(source, identifiers, options.active, settings.color, now());
    let mut watch = Watch::new(streams, Client::new(settings)?);
    let left = stage::run(Screen::enter()?, &mut app, &mut watch).await;
    for command in streams.resume_commands() {
        settings.console.say(command);
    }
    let saved = streams.finish();
    let left = left?;
    saved?;
    match left {
        Left::Interrupted => Ok(Exit::Interrupted),
        Left::Quit => streams.exit(options.exit_status),
    }
}

/// Plays a recording until the user leaves.
pub async fn play(settings: &Settings, recording: Recording, file: &Path, speed: Speed) -> Result {
    let identifiers = recording.identifiers.iter().map(ToString::to_string).collect();
    let source = Source::Recording { file: file.to_string_lossy().into_owned(), speed: speed.to_string() };
    let mut played = Played::new(Player::new(recording, speed, Instant::now()));
    let mut app = App::new(source, identifiers, false, settings.color, now());
    match stage::run(Screen::enter()?, &mut app, &mut played).await? {
        Left::Interrupted => Ok(Exit::Interrupted),
        Left::Quit => Ok(Exit::Ok),
    }
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}
