//! `tail`: follow calls.

use std::io::{self, IsTerminal as _};

use callscope_common::Identifier;

use crate::args::{self, Format};
use crate::client::Client;
use crate::exit::{Failure, Result};
use crate::live::{Request, Start};
use crate::settings::Settings;
use crate::tail::{self, CursorFile, Ndjson, Plain, Streams};
use crate::tui;

/// How the stream is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Full-screen.
    Screen,
    /// Plain lines.
    Lines,
    /// NDJSON.
    Ndjson,
}

/// Runs it.
pub async fn run(settings: &Settings, args: args::Tail) -> Result {
    let view = view(settings, &args)?;
    let identifiers = if !args.ids.is_empty() {
        named(&args.ids)?
    } else if args.active || view == View::Screen {
        Vec::new()
    } else if io::stdin().is_terminal() && io::stderr().is_terminal() {
        tail::pick(settings).await?
    } else {
        return Err(Failure::usage("which call? there is nobody to ask here").hint(
            "name one or more: callscope tail ID; or follow all that are live: callscope tail --active; \
             they are listed by: callscope calls ls --status in_progress",
        ));
    };
    let requests = requests(identifiers, &args)?;
    show(settings, requests, &args, view).await
}

/// The identifiers given, each once.
fn named(ids: &[String]) -> Result<Vec<Identifier>> {
    let parse = |id: &String| Identifier::parse(id).map_err(|error| Failure::usage(error.to_string()));
    let mut identifiers = ids.iter().map(parse).collect::<Result<Vec<_>>>()?;
    let mut seen = std::collections::HashSet::new();
    identifiers.retain(|identifier| seen.insert(identifier.clone()));
    Ok(identifiers)
}

/// Follows `requests` and shows them.
pub async fn show(settings: &Settings, requests: Vec<Request>, args: &args::Tail, view: View) -> Result {
    if requests.is_empty() && view == View::Screen && !args.active {
        // A server that cannot be asked is told before the screen is taken.
        tail::live_calls(&Client::new(settings)?).await?;
    }
    let mut streams = Streams::open(settings, requests, args).await?;
    let identifiers = streams.requests.iter().map(|request| request.identifier.clone()).collect();
    match view {
        View::Screen => tui::run(settings, &mut streams, args).await,
        View::Lines => {
            if args.active {
                settings.console.say("following every live call; Ctrl-C ends it");
            }
            let mut plain = Plain::new(io::stdout(), settings.console, identifiers, settings.color, args.timestamps);
            tail::drain(&mut streams, &mut plain, settings, args.exit_status).await
        }
        View::Ndjson => {
            let mut ndjson = Ndjson::new(io::stdout(), identifiers);
            tail::drain(&mut streams, &mut ndjson, settings, args.exit_status).await
        }
    }
}

/// Full-screen on a terminal, unless something else was asked for.
pub fn view(settings: &Settings, args: &args::Tail) -> Result<View> {
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

fn requests(identifiers: Vec<Identifier>, args: &args::Tail) -> Result<Vec<Request>> {
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
