//! `callscope-server`: see `--help`.

mod command;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = command::Arguments::parse();
    command::run(arguments)
}
