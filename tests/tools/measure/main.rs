//! The measurements whose results docs/reliability.md, docs/performance.md and docs/terminal.md show, and the pictures
//! in the documentation.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

mod blackout;
mod deflate;
mod drain;
mod recorder;
mod screens;
mod stalled;
mod terminal;
mod turns;

use clap::Parser;

/// Measure the figures in docs/reliability.md, docs/performance.md and docs/terminal.md
#[derive(Debug, Parser)]
#[command(name = "callscope-measure")]
enum Measure {
    /// One stalled client among many: the delays of the others, and the memory for it
    Stalled(stalled::Flags),
    /// Redis killed under load: the delays of events from one server to another
    Blackout(blackout::Flags),
    /// A drain of many connections: close codes, and arrivals at another server
    Drain(drain::Flags),
    /// The number of followers from which compressing a message would save CPU time
    Deflate(deflate::Flags),
    /// Calls of several lengths on a screen: CPU time for a frame and while idle, memory, plain lines a second
    Terminal(terminal::Flags),
    /// The pictures of screens in the documentation
    Screens(screens::Flags),
}

#[tokio::main]
async fn main() {
    match Measure::parse() {
        Measure::Stalled(flags) => stalled::run(flags).await,
        Measure::Blackout(flags) => blackout::run(flags).await,
        Measure::Drain(flags) => drain::run(flags).await,
        Measure::Deflate(flags) => deflate::run(&flags).await,
        Measure::Terminal(flags) => terminal::run(&flags),
        Measure::Screens(flags) => screens::run(&flags).await,
    }
}
