//! `callscope`: follows voice calls in the terminal, and looks after the server that keeps them.
//!
//! - [`command`]: the command line, with one file for each subcommand: its flags and what it does
//! - [`settings`]: flags, environment and files together; [`config`]: the file of contexts; [`secret`], [`token`]:
//!   what proves who asks
//! - [`net`]: the one way to a server, for HTTP and WebSockets; [`api`]: the HTTP API; [`stream`]: streams,
//!   unbroken across reconnects
//! - [`webhook`]: sends signed webhooks, for [`replay`], which makes payloads into webhooks again; [`payload`]: what a
//!   payload says, and how it is changed; [`samples`]: the payloads shipped
//! - [`tail`]: what `tail` does with the stream; [`play`]: saved streams; [`top`]: the whole server; [`term`]: the
//!   engine of full-screen views
//! - [`listen`]: deliveries, followed and forwarded; [`redact`]: fixtures without people in them; [`doctor`]: checks
//! - [`render`]: data to stdout, all else to stderr, as text that a terminal does not act on; [`exit`]: exit codes
//! - [`signals`]: what ends the program; [`state_file`]: files that remember a place; [`speed`]: how fast a call is
//!   spoken; [`clock`], [`duration`]: times

mod api;
mod clock;
mod command;
mod config;
mod doctor;
mod duration;
mod exit;
mod listen;
mod net;
mod payload;
mod play;
mod redact;
mod render;
mod replay;
mod samples;
mod secret;
mod settings;
mod signals;
mod speed;
mod state_file;
mod stream;
mod tail;
mod term;
mod token;
mod top;
mod webhook;

use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    signals::note_hangup();
    match command::complete::answer() {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(failure) => return failure.report().into(),
    }
    let args = match command::parse() {
        Ok(args) => args,
        Err(exit) => return exit.into(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::Failure::error(format!("cannot start threads: {error}")).report().into(),
    };
    let exit = runtime.block_on(command::run(args)).unwrap_or_else(|failure| failure.report());
    // A blocked read of stdin must not delay the exit.
    runtime.shutdown_timeout(Duration::from_millis(100));
    exit.into()
}
