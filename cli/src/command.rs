//! The subcommands, and what each of them runs.

mod args;
pub(crate) mod calls;
pub(crate) mod complete;
mod connections;
mod context;
pub(crate) mod deliveries;
#[cfg(feature = "demo")]
mod demo;
pub(crate) mod doctor;
pub(crate) mod listen;
pub(crate) mod login;
pub(crate) mod man;
mod play;
pub(crate) mod replay;
mod samples;
mod subscriptions;
pub(crate) mod tail;
mod token;
pub(crate) mod top;
mod trigger;
mod webhook;

use clap::Subcommand;

use crate::exit::{Exit, Result};
use crate::settings::{Global, Settings};
use crate::signals::Signals;
use calls::Calls;
use connections::Connections;
use context::Context;
use deliveries::Deliveries;
#[cfg(feature = "demo")]
use demo::Demo;
use doctor::Doctor;
use listen::Listen;
use login::{Login, Logout};
use man::{Completions, Help, Man};
use play::Play;
use replay::Replay;
use samples::Samples;
use subscriptions::Subscriptions;
use tail::Tail;
use token::Token;
use top::Top;
use trigger::Trigger;
use webhook::Webhook;

pub(crate) use args::{Args, parse};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a server on loopback, speak a sample call live, and follow it
    #[cfg(feature = "demo")]
    Demo(Demo),
    /// Follow calls: full-screen on a terminal, plain lines in a pipe
    Tail(Tail),
    /// Play a saved tail again, offline
    Play(Play),
    /// List, show, watch and export calls
    #[command(subcommand)]
    Calls(Calls),
    /// Watch the whole server: calls, connections, subscriptions, deliveries, errors (admin)
    Top(Top),
    /// List, show and kick the server's live connections (admin)
    #[command(subcommand)]
    Connections(Connections),
    /// List and show the followed calls (admin)
    #[command(subcommand)]
    Subscriptions(Subscriptions),
    /// What came in: list, show, replay and export it (admin)
    #[command(subcommand)]
    Deliveries(Deliveries),
    /// Follow what comes in and forward it to a server of your own (admin)
    Listen(Listen),
    /// Send payloads as signed webhooks, at the call's own pace
    Replay(Replay),
    /// Send one webhook of a type, with the fields you name
    Trigger(Trigger),
    /// The payloads shipped with this program, and your own
    #[command(subcommand)]
    Samples(Samples),
    /// Sign a webhook's body, or verify a signature
    #[command(subcommand)]
    Webhook(Webhook),
    /// The servers you work with, by name
    #[command(subcommand)]
    Context(Context),
    /// Log in at the server, and keep the token in a context
    Login(Login),
    /// Forget a context's token
    Logout(Logout),
    /// Who the server takes you for
    Whoami,
    /// Inspect access tokens
    #[command(subcommand)]
    Token(Token),
    /// Check the way to the server, the token and the terminal
    Doctor(Doctor),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print a manual page, or write all of them
    Man(Man),
    /// Explain a command or a topic
    Help(Help),
}

pub(crate) async fn run(args: Args) -> Result {
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
                done = run_interruptible(&settings, other, &args.global) => done,
                _ = signals.next() => {
                    // A prompt for a token may have changed the mode of the terminal.
                    let _ = crossterm::terminal::disable_raw_mode();
                    settings.console.progress("");
                    Ok(Exit::Interrupted)
                }
            }
        }
    }
}

/// Runs a command that needs no cleanup when a signal interrupts it.
async fn run_interruptible(settings: &Settings, command: Command, global: &Global) -> Result {
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
        Command::Token(args) => token::run(settings, args),
        Command::Doctor(args) => doctor::run(settings, args).await,
        Command::Completions(args) => man::completions(settings, &args),
        Command::Man(args) => man::man(settings, &args),
        Command::Help(args) => man::help(settings, &args),
        // `run` handles these.
        #[cfg(feature = "demo")]
        Command::Demo(_) => Ok(Exit::Ok),
        Command::Tail(_) | Command::Play(_) | Command::Top(_) | Command::Replay(_) => Ok(Exit::Ok),
    }
}

/// Returns whether a command needs the server of a context. Others work even if the context file is damaged.
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
