//! `tail`: follow calls.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use callscope_common::Identifier;
use clap::Args as ClapArgs;

use crate::api::Client;
use crate::exit::{Failure, Result};
use crate::render::Format;
use crate::settings::Settings;
use crate::stream::{Place, Request, Start};
use crate::tail::pattern::Pattern;
use crate::tail::{self, CursorFile, NdjsonWriter, PlainWriter, Selection, Streams, tui};

/// `tail`.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct Tail {
    /// Any identifiers of calls; none: pick from the live calls (on a terminal)
    #[arg(value_name = "ID", add = super::complete::calls())]
    pub(crate) ids: Vec<String>,
    /// Follow all live calls, and those that come
    #[arg(long, conflicts_with = "no_follow")]
    pub(crate) active: bool,
    /// Plain lines, also on a terminal
    #[arg(long, conflicts_with = "tui")]
    pub(crate) plain: bool,
    /// Full-screen, or an error where that is not possible
    #[arg(long)]
    pub(crate) tui: bool,
    /// Begin with the last N turns
    #[arg(short = 'n', long, value_name = "N", conflicts_with_all = ["after", "cursor_file"])]
    pub(crate) lines: Option<usize>,
    /// Begin behind this cursor, which a message carried, or after the event of this number
    #[arg(long, value_name = "CURSOR|SEQ", conflicts_with = "cursor_file", allow_negative_numbers = true)]
    pub(crate) after: Option<Place>,
    /// Stop once everything there is now has come
    #[arg(long)]
    pub(crate) no_follow: bool,
    /// Wait for a call that is not known yet
    #[arg(long)]
    pub(crate) wait: bool,
    /// Exit with 6 when the connection breaks
    #[arg(long, conflicts_with = "reconnect")]
    pub(crate) no_reconnect: bool,
    /// Take the stream up again when the connection breaks; the default
    #[arg(long)]
    pub(crate) reconnect: bool,
    /// Keep the place in this file, and begin there the next time
    #[arg(long, value_name = "FILE")]
    pub(crate) cursor_file: Option<PathBuf>,
    /// Exit with 7 when a call failed
    #[arg(long)]
    pub(crate) exit_status: bool,
    /// Also write the stream to this file, as NDJSON
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Let --save take the place of a file that is there
    #[arg(long, requires = "save")]
    pub(crate) force: bool,
    /// Date and time before each line
    #[arg(short = 't', long)]
    pub(crate) timestamps: bool,
    /// Only turns whose text matches
    #[arg(short, long, value_name = "REGEX")]
    pub(crate) include: Vec<Pattern>,
    /// No turns whose text matches
    #[arg(short, long, value_name = "REGEX")]
    pub(crate) exclude: Vec<Pattern>,
}

impl Tail {
    fn options(&self) -> tail::Options {
        tail::Options {
            selection: Selection { last: self.lines, include: self.include.clone(), exclude: self.exclude.clone() },
            active: self.active,
            follow: !self.no_follow,
            reconnect: !self.no_reconnect,
            save: self.save.clone(),
            force: self.force,
            cursor_file: self.cursor_file.clone(),
            exit_status: self.exit_status,
        }
    }
}

/// How the stream is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Screen,
    Lines,
    Ndjson,
}

pub(crate) async fn run(settings: &Settings, args: Tail) -> Result {
    let view = view(settings, &args)?;
    let identifiers = if !args.ids.is_empty() {
        parse_unique(&args.ids)?
    } else if args.active || view == View::Screen {
        Vec::new()
    } else if io::stdin().is_terminal() && io::stderr().is_terminal() {
        tail::choose_live_call(settings).await?
    } else {
        return Err(Failure::usage("which call? without a terminal there is no choice to offer").hint(
            "name one or more: callscope tail ID; or follow all that are live: callscope tail --active; \
             they are listed by: callscope calls ls --status in_progress",
        ));
    };
    let requests = requests(identifiers, &args)?;
    show(settings, requests, &args, view).await
}

/// Parses identifiers and removes repeated ones.
fn parse_unique(ids: &[String]) -> Result<Vec<Identifier>> {
    let parse = |id: &String| Identifier::parse(id).map_err(|error| Failure::usage(error.to_string()));
    let mut identifiers = ids.iter().map(parse).collect::<Result<Vec<_>>>()?;
    let mut seen = std::collections::HashSet::new();
    identifiers.retain(|identifier| seen.insert(identifier.clone()));
    Ok(identifiers)
}

/// Follows `requests` and shows them.
pub(crate) async fn show(settings: &Settings, requests: Vec<Request>, args: &Tail, view: View) -> Result {
    if requests.is_empty() && view == View::Screen && !args.active {
        // A server that cannot be reached is reported before the full-screen view starts.
        Client::new(settings)?.live_calls().await?;
    }
    let options = args.options();
    let mut streams = Streams::open(settings, requests, &options).await?;
    let identifiers = streams.requests.iter().map(|request| request.identifier.clone()).collect();
    match view {
        View::Screen => tui::run(settings, &mut streams, &options).await,
        View::Lines => {
            if args.active {
                settings.console.say("following every live call; Ctrl-C ends it");
            }
            let mut plain =
                PlainWriter::new(io::stdout(), settings.console, identifiers, settings.color, args.timestamps);
            tail::write_updates(&mut streams, &mut plain, settings, args.exit_status).await
        }
        View::Ndjson => {
            let mut ndjson = NdjsonWriter::new(io::stdout(), identifiers);
            tail::write_updates(&mut streams, &mut ndjson, settings, args.exit_status).await
        }
    }
}

/// Returns how to show the stream: full-screen on a terminal, unless a flag or a setting says otherwise.
pub(crate) fn view(settings: &Settings, args: &Tail) -> Result<View> {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if args.tui && !terminal {
        return Err(
            Failure::usage("--tui needs a terminal on stdin and stdout").hint("plain lines: callscope tail --plain ID")
        );
    }
    Ok(match settings.format {
        Some(Format::Json | Format::Ndjson) => View::Ndjson,
        _ if args.tui => View::Screen,
        Some(Format::Text | Format::Table) => View::Lines,
        None if args.plain || settings.accessible || !terminal || dumb => View::Lines,
        None => View::Screen,
    })
}

fn requests(identifiers: Vec<Identifier>, args: &Tail) -> Result<Vec<Request>> {
    let cursors = args.cursor_file.as_deref().map(CursorFile::open).transpose()?;
    let request = |identifier: Identifier| {
        let start = match (args.after, args.lines) {
            (Some(place), _) => Start::After(place),
            (None, Some(0)) => Start::Live,
            _ => cursors.as_ref().and_then(|file| file.place(&identifier)).map_or(Start::First, Start::After),
        };
        Request { identifier, start, wait: args.wait, follow: !args.no_follow, reconnect: !args.no_reconnect }
    };
    Ok(identifiers.into_iter().map(request).collect())
}
