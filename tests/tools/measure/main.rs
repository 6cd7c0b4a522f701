//! Measurements for docs/reliability.md, docs/performance.md and docs/terminal.md: what a stalled client costs the
//! others, how late events are while Redis is dead, how a drain spreads its clients, what a call of any length costs on
//! a screen.

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

/// Measures what docs/reliability.md, docs/performance.md and docs/terminal.md say
#[derive(Debug, Parser)]
#[command(name = "callscope-measure")]
enum Measure {
    /// One stalled client among many: lateness of the others, memory for it
    Stalled(stalled::Flags),
    /// Redis dead under load: staleness across servers
    Blackout(blackout::Flags),
    /// A drain of many connections: close codes, arrivals elsewhere
    Drain(drain::Flags),
    /// Whether compressing messages would pay
    Deflate(deflate::Flags),
    /// A call of any length on a screen: work for a frame, memory, work while nothing happens, lines a second
    Terminal(terminal::Flags),
    /// The screens that the documentation shows, drawn by the program itself
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
