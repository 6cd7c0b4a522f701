//! The full-screen view of `tail` and `play`: [`TailApp`] is its state, [`view`] draws it, [`source`] brings its
//! messages, and [`term`](crate::term) shows it.

mod app;
mod call_tab;
mod entry;
mod event_entries;
mod event_pages;
mod keys;
mod picker;
mod raw_view;
mod save;
mod source;
mod transcript;
mod view;

use callscope_common::Timestamp;
use ratatui::Frame;

use crate::api::Client;
use crate::exit::{Exit, Result};
use crate::settings::Settings;
use crate::tail::{Options, Streams};
use crate::term::event_loop::{self, ExitReason, Input, Model, Source as _};
use crate::term::screen::Screen;
use app::Effect;
use source::LiveSource;

pub(crate) use app::{Message, Origin, Request, TailApp};
pub(crate) use keys::HELP;

/// Shows the streams until the user leaves.
pub(crate) async fn run(settings: &Settings, streams: &mut Streams, options: &Options) -> Result {
    let identifiers = streams.requests.iter().map(|request| request.identifier.to_string()).collect();
    let origin = Origin::Server(crate::net::display_url(&settings.server).to_owned());
    let mut source = LiveSource::new(streams, Client::new(settings)?);
    let mut app = TailApp::new(origin, identifiers, options.active, settings.color, source.now());
    let left = event_loop::run(Screen::enter()?, &mut app, &mut source).await;
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

impl Model for TailApp {
    type Message = Message;
    type Request = Request;

    fn update(&mut self, input: Input<Message>, now: Timestamp) -> Vec<Effect> {
        self.apply(input, now)
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        view::draw(self, frame);
    }

    fn needs_ticks(&self) -> bool {
        self.is_moving()
    }
}
