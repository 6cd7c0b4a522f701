//! `callscope-server`: see `--help`.

mod command;

use std::process::ExitCode;

use clap::Parser;

/// Webhooks are allocated on one thread and freed on another, which the system's allocator takes a lock for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = command::Arguments::parse();
    command::run(arguments)
}
