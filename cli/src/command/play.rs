//! `play`: a saved tail again, offline.

use std::io;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use tokio::time::Instant;

use super::tail::{View, view};
use crate::exit::{Exit, Failure, Result};
use crate::play::{Player, SavedTail, tui};
use crate::render::StdoutReader;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::speed::{InvalidSpeed, Speed};
use crate::tail::{NdjsonWriter, PlainWriter, Sink};

/// `play`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Play {
    /// A saved tail (`callscope tail ID --save FILE`); - for stdin
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// How fast: 1x, 10x, max [default: 1x full-screen, max as lines]
    #[arg(long, value_name = "SPEED")]
    pub(crate) speed: Option<Speed>,
    /// Plain lines, also on a terminal
    #[arg(long)]
    pub(crate) plain: bool,
    /// Date and time before each line
    #[arg(short = 't', long)]
    pub(crate) timestamps: bool,
}

pub(crate) async fn run(settings: &Settings, args: Play) -> Result {
    let view = view(settings, &crate::command::tail::Tail { plain: args.plain, ..Default::default() })?;
    let recording = SavedTail::open(&args.file)?;
    let speed = |default: &str| {
        args.speed.map_or_else(|| default.parse().map_err(|error: InvalidSpeed| Failure::usage(error.to_string())), Ok)
    };
    let identifiers = recording.identifiers.clone();
    let mut sink: Box<dyn Sink> = match view {
        View::Screen => return tui::run(settings, recording, &args.file, speed("1x")?).await,
        View::Lines => {
            Box::new(PlainWriter::new(io::stdout(), settings.console, identifiers, settings.color, args.timestamps))
        }
        View::Ndjson => Box::new(NdjsonWriter::new(io::stdout(), identifiers)),
    };
    drain(Player::new(recording, speed("max")?, Instant::now()), sink.as_mut()).await
}

async fn drain(mut player: Player, sink: &mut dyn Sink) -> Result {
    let mut signals = Signals::listen()?;
    let mut reader = StdoutReader::watch();
    loop {
        let played = tokio::select! {
            played = player.next() => match played {
                Some(played) => played,
                None => return Ok(Exit::Ok),
            },
            () = reader.closed() => return Err(Failure::output(&io::ErrorKind::BrokenPipe.into())),
            _ = signals.next() => return Ok(Exit::Interrupted),
        };
        for update in &played.updates {
            sink.update(played.call, update, played.progress.start).map_err(|error| Failure::output(&error))?;
        }
    }
}
