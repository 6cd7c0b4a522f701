//! `callscope-server`: see `--help`.

mod command;

use std::process::ExitCode;

use clap::Parser;

/// Webhooks are allocated on one thread and freed on another, which the system's allocator takes a lock for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Thousands of small things, spread over the heap: with huge pages a connection takes half as much again. Where the system
    // will not have it, nothing is lost.
    let _ = nix::sys::prctl::set_thp_disable(true);
    // What the server makes, it alone may read: the database, its log, secrets.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let arguments = command::Arguments::parse();
    let code = command::run(arguments);
    callscope_server::telemetry::writer::flush();
    code
}
