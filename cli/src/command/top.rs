//! `top`: the whole server, live.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::Args as ClapArgs;

use crate::api::{Client, Raw};
use crate::clock;
use crate::exit::{Exit, Result};
use crate::net::display_url;
use crate::render::Format;
use crate::settings::Settings;
use crate::term::event_loop::{self, ExitReason};
use crate::term::screen::Screen;
use crate::top::{self, Poller, Tab};

/// `top`.
#[derive(Debug, Clone, ClapArgs)]
#[command(after_help = "Keys: callscope help keys")]
pub(crate) struct Top {
    /// The tab to begin with
    #[arg(long, value_name = "TAB", default_value = "calls")]
    pub(crate) tab: Tab,
    /// Seconds between two looks at the server
    #[arg(long, value_name = "SECS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) interval: u64,
    /// Only look: no kick, no replay
    #[arg(long)]
    pub(crate) read_only: bool,
}

pub(crate) async fn run(settings: &Settings, args: Top) -> Result {
    let client = Client::new(settings)?;
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if settings.format.is_some() || settings.accessible || dumb || !is_terminal {
        return once(settings, &client).await;
    }
    // If the server cannot be reached or refuses the client, the command fails before the view starts.
    client.stats().await?;
    let now = clock::now();
    let mut top = top::TopApp::new(display_url(&settings.server).to_owned(), settings.context.clone(), args.tab, now);
    (top.color, top.read_only, top.interval) = (settings.color, args.read_only, args.interval);
    let screen = Screen::enter()?;
    let mut poller = Poller::start(client, args.tab, Duration::from_secs(args.interval));
    Ok(match event_loop::run(screen, &mut top, &mut poller).await? {
        ExitReason::Quit => Exit::Ok,
        ExitReason::Interrupted => Exit::Interrupted,
    })
}

/// Prints the statistics once, as data, for output without a full-screen view.
async fn once(settings: &Settings, client: &Client) -> Result {
    let Raw { json, value: stats } = client.stats().await?;
    #[allow(clippy::cast_precision_loss)]
    let up = crate::duration::in_words(stats.uptime_seconds as f64);
    settings.output(Format::Table).record(
        &json,
        &[
            ("server", display_url(&settings.server).to_owned()),
            ("version", stats.version.clone()),
            ("up", up),
            ("processes", stats.cluster.len().to_string()),
            ("silent", stats.silent_nodes.join(" ")),
            ("calls", by_name(&stats.calls)),
            ("connections", stats.connections.to_string()),
            ("followed", stats.followed_calls.to_string()),
            ("deliveries", by_name(&stats.deliveries)),
            ("unverified", stats.unverified_deliveries.to_string()),
            ("events", stats.events_broadcast.to_string()),
            ("writes waiting", stats.writes_waiting.to_string()),
        ],
    )?;
    settings
        .console
        .say("lists: callscope calls ls, connections ls, subscriptions ls; as it happens: callscope calls watch");
    Ok(Exit::Ok)
}

fn by_name(counts: &BTreeMap<impl Display, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}
