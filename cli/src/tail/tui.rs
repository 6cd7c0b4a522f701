//! The full-screen view of `tail` and `play`: [`TailApp`](app::TailApp) is its state, [`view`] draws it, [`source`] is where its messages come from, and
//! [`term`](crate::term) shows it.

mod app;
mod call_tab;
mod entry;
mod event_entries;
mod event_pages;
mod json;
mod keys;
mod picker;
mod raw_view;
mod source;
mod transcript;
mod view;

use std::path::Path;
use std::time::SystemTime;

use callscope_common::Timestamp;
use tokio::time::Instant;

use crate::api::Client;
use crate::exit::{Exit, Result};
use crate::play::{Player, SavedTail};
use crate::settings::Settings;
use crate::speed::Speed;
use crate::tail::Streams;
use crate::term::event_loop::ExitReason;
use crate::term::screen::Screen;
use app::{Origin, TailApp};
use source::{LiveSource, PlaybackSource};

pub use keys::HELP;

/// Shows the streams until the user leaves.
pub async fn run(settings: &Settings, streams: &mut Streams, options: &crate::command::tail::Tail) -> Result {
    let identifiers = streams.requests.iter().map(|request| request.identifier.to_string()).collect();
    let origin = Origin::Server(crate::net::shown(&settings.server).to_owned());
    let mut app = TailApp::new(origin, identifiers, options.active, settings.color, now());
    let mut watch = LiveSource::new(streams, Client::new(settings)?);
    let left = crate::term::event_loop::run(Screen::enter()?, &mut app, &mut watch).await;
    for command in streams.resume_commands() {
        settings.console.say(command);
    }
    let saved = streams.finish();
    let left = left?;
    saved?;
    match left {
        ExitReason::Interrupted => Ok(Exit::Interrupted),
        ExitReason::Quit => streams.exit(options.exit_status),
    }
}

/// Plays a recording until the user leaves.
pub async fn play(settings: &Settings, recording: SavedTail, file: &Path, speed: Speed) -> Result {
    let identifiers = recording.identifiers.iter().map(ToString::to_string).collect();
    let origin = Origin::Recording { file: file.to_string_lossy().into_owned(), speed: speed.to_string() };
    let mut played = PlaybackSource::new(Player::new(recording, speed, Instant::now()));
    let mut app = TailApp::new(origin, identifiers, false, settings.color, now());
    match crate::term::event_loop::run(Screen::enter()?, &mut app, &mut played).await? {
        ExitReason::Interrupted => Ok(Exit::Interrupted),
        ExitReason::Quit => Ok(Exit::Ok),
    }
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}
