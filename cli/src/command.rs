//! The subcommands.

mod calls;
mod connections;
mod context;
mod deliveries;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod listen;
mod login;
mod man;
mod play;
mod replay;
mod samples;
mod subscriptions;
mod tail;
mod token;
mod top;
mod trigger;
mod webhook;

use crate::args::{Args, Command, Global};
use crate::exit::{Exit, Result};
use crate::settings::Settings;
use crate::tail::Signals;

/// Does what the command line says.
pub async fn run(args: Args) -> Result {
    let settings = Settings::load(&args.global, needs_server(&args.command))?;
    match args.command {
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(settings, args).await,
        Command::Tail(args) => tail::run(&settings, args).await,
        Command::Play(args) => play::run(&settings, args).await,
        Command::Top(args) => top::run(&settings, args).await,
        Command::Replay(args) => replay::run(&settings, args).await,
        other => {
            let mut signals = Signals::listen()?;
            tokio::select! {
                done = short(&settings, other, &args.global) => done,
                _ = signals.next() => {
                    // A password may have been asked for.
                    let _ = crossterm::terminal::disable_raw_mode();
                    settings.console.progress("");
                    Ok(Exit::Interrupted)
                }
            }
        }
    }
}

/// Commands that have nothing to tidy up when they are interrupted.
async fn short(settings: &Settings, command: Command, global: &Global) -> Result {
    match command {
        Command::Calls(args) => calls::run(settings, args).await,
        Command::Connections(args) => connections::run(settings, args).await,
        Command::Subscriptions(args) => subscriptions::run(settings, args).await,
        Command::Deliveries(args) => deliveries::run(settings, args).await,
        Command::Listen(args) => listen::run(settings, args).await,
        Command::Samples(args) => samples::run(settings, &args),
        Command::Trigger(args) => trigger::run(settings, args).await,
        Command::Webhook(args) => webhook::run(settings, args),
        Command::Context(args) => context::run(settings, args, global.token_file.as_ref()),
        Command::Login(args) => login::login(settings, args).await,
        Command::Logout(args) => login::logout(settings, args),
        Command::Whoami => login::whoami(settings).await,
        Command::Token(args) => token::run(settings, args).await,
        Command::Doctor(args) => doctor::run(settings, args).await,
        Command::Completions(args) => man::completions(settings, &args),
        Command::Man(args) => man::man(settings, &args),
        Command::Help(args) => man::help(settings, &args),
        // These have signals of their own and never come here.
        #[cfg(feature = "demo")]
        Command::Demo(_) => Ok(Exit::Ok),
        Command::Tail(_) | Command::Play(_) | Command::Top(_) | Command::Replay(_) => Ok(Exit::Ok),
    }
}

/// Whether a command goes to a server that a context may name; others must work whatever the file of contexts holds.
fn needs_server(command: &Command) -> bool {
    match command {
        #[cfg(feature = "demo")]
        Command::Demo(_) => false,
        Command::Play(_)
        | Command::Samples(_)
        | Command::Webhook(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Help(_) => false,
        _ => true,
    }
}
