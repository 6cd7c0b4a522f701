//! `callscope`: follows voice calls in the terminal, and looks after the server that keeps them.
//!
//! - [`args`]: the command line; [`settings`]: flags, environment and files together; [`config`]: the file of contexts
//! - [`command`]: one module a subcommand; [`complete`]: what a shell's completion is told; [`topic`]: the texts of `help`
//! - [`live`]: a call's stream, unbroken across reconnects; [`client`]: the HTTP API
//! - [`tail`]: what `tail` does with the stream; [`play`]: saved streams; [`tui`]: the full-screen views
//! - [`top`]: the full-screen view of the whole server; [`token`]: what an access token says
//! - [`replay`]: payloads back into signed webhooks; [`samples`]: the payloads shipped
//! - [`listen`]: deliveries, followed and forwarded; [`redact`]: fixtures without people in them
//! - [`net`]: the one way to a server, for HTTP and WebSockets
//! - [`output`], [`console`]: data to stdout, all else to stderr; [`safe`]: text that a terminal does not act on; [`exit`]: exit codes
//! - [`items`]: lists in answers, bounded
//! - [`hangup`]: SIGHUP as the parent left it

mod args;
mod client;
mod command;
mod complete;
mod config;
mod console;
mod exit;
mod hangup;
mod items;
mod listen;
mod live;
mod net;
mod output;
mod play;
mod redact;
mod replay;
mod safe;
mod samples;
mod secret;
mod settings;
mod state_file;
mod tail;
mod token;
mod top;
mod topic;
mod tui;

use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    hangup::note();
    match complete::answer() {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(failure) => return failure.report().into(),
    }
    let args = match args::parse() {
        Ok(args) => args,
        Err(exit) => return exit.into(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::Failure::error(format!("cannot start threads: {error}")).report().into(),
    };
    let exit = runtime.block_on(command::run(args)).unwrap_or_else(|failure| failure.report());
    // A read of stdin that never returns must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    exit.into()
}
