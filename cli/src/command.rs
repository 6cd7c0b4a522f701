//! The subcommands.

mod calls;
mod completions;
mod connections;
mod deliveries;
#[cfg(feature = "demo")]
mod demo;
mod listen;
mod replay;
mod samples;
mod subscriptions;
mod tail;
mod webhook;

use crate::args::{Args, Command};
use crate::exit::{Exit, Result};
use crate::settings::Settings;
use crate::tail::Signals;

/// Does what the command line says.
pub async fn run(args: Args) -> Result {
    let settings = Settings::load(&args.global)?;
    match args.command {
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(settings, args).await,
        Command::Tail(args) => tail::run(&settings, args).await,
        other => {
            let mut signals = Signals::listen()?;
            tokio::select! {
                done = short(&settings, other) => done,
                _ = signals.next() => {
                    settings.console.progress("");
                    Ok(Exit::Interrupted)
                }
            }
        }
    }
}

/// Commands that have nothing to tidy up when they are interrupted.
async fn short(settings: &Settings, command: Command) -> Result {
    match command {
        Command::Calls(args) => calls::run(settings, args).await,
        Command::Connections(args) => connections::run(settings, args).await,
        Command::Subscriptions(args) => subscriptions::run(settings, args).await,
        Command::Deliveries(args) => deliveries::run(settings, args).await,
        Command::Listen(args) => listen::run(settings, args).await,
        Command::Replay(args) => replay::run(settings, args).await,
        Command::Samples(args) => samples::run(settings, &args),
        Command::Webhook(args) => webhook::run(settings, args),
        Command::Completions { shell } => completions::run(shell),
        // These two have signals of their own and never come here.
        #[cfg(feature = "demo")]
        Command::Demo(_) => Ok(Exit::Ok),
        Command::Tail(_) => Ok(Exit::Ok),
    }
}
