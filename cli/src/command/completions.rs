//! `completions`: a script that completes this program's command lines.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Args;
use crate::exit::{Exit, Failure, Result};

/// Runs it.
pub fn run(shell: Shell) -> Result {
    // Made in memory first: the generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "callscope", &mut script);
    let mut stdout = io::stdout().lock();
    stdout.write_all(&script).and_then(|()| stdout.flush()).map_err(|error| Failure::output(&error))?;
    Ok(Exit::Ok)
}
