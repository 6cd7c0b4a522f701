//! The program `callscope-server`.

mod command;

use std::process::ExitCode;

use clap::Parser;

/// Webhooks are allocated on one thread and freed on another. For that the system's allocator takes a lock, which this
/// one does not.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // With huge pages, a connection takes half as much memory again, because its small blocks are spread over the heap.
    // An error leaves it at that.
    let _ = nix::sys::prctl::set_thp_disable(true);
    // Only the server's user may read the files that it makes: the database, its log and secrets.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let arguments = command::Arguments::parse();
    let code = command::run(arguments);
    callscope_server::telemetry::writer::flush();
    code
}
