//! `play`: a saved tail again, offline.

use std::io;

use tokio::time::Instant;

use super::tail::{View, view};
use crate::args;
use crate::exit::{Exit, Failure, Result};
use crate::play::{Played, Player, Recording};
use crate::settings::Settings;
use crate::tail::{Ndjson, Plain, Reader, Signals, Sink};
use crate::tui;

/// Runs it.
pub async fn run(settings: &Settings, args: args::Play) -> Result {
    let view = view(settings, &args::Tail { plain: args.plain, ..Default::default() })?;
    let recording = Recording::open(&args.file)?;
    let speed = |default: &str| args.speed.map_or_else(|| default.parse().map_err(Failure::usage), Ok);
    let identifiers = recording.identifiers.clone();
    match view {
        View::Screen => tui::play(settings, recording, &args.file, speed("1x")?).await,
        View::Lines => {
            let mut plain = Plain::new(io::stdout(), settings.console, identifiers, settings.color, args.timestamps);
            drain(Player::new(recording, speed("max")?, Instant::now()), &mut plain).await
        }
        View::Ndjson => {
            drain(Player::new(recording, speed("max")?, Instant::now()), &mut Ndjson::new(io::stdout(), identifiers))
                .await
        }
    }
}

async fn drain(mut player: Player, sink: &mut dyn Sink) -> Result {
    let mut signals = Signals::listen()?;
    let mut reader = Reader::watch();
    loop {
        let Played { call, update, start, .. } = tokio::select! {
            played = player.next() => match played {
                Some(played) => played,
                None => return Ok(Exit::Ok),
            },
            () = reader.gone() => return Err(Failure::output(&io::ErrorKind::BrokenPipe.into())),
            _ = signals.next() => return Ok(Exit::Interrupted),
        };
        sink.update(call, &update, start).map_err(|error| Failure::output(&error))?;
    }
}
