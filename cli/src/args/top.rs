//! The command line of `top`.

use clap::{Args as ClapArgs, ValueEnum};

/// `top`.
#[derive(Debug, Clone, ClapArgs)]
#[command(after_help = "Keys: callscope help keys")]
pub struct Top {
    /// The tab to begin with
    #[arg(long, value_name = "TAB", default_value = "calls")]
    pub tab: Tab,
    /// Seconds between two looks at the server
    #[arg(long, value_name = "SECS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
    /// Only look: no kick, no replay
    #[arg(long)]
    pub read_only: bool,
}

/// A tab of `top`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Tab {
    /// The calls, newest first
    Calls,
    /// The live connections
    Connections,
    /// The followed calls
    Subscriptions,
    /// What came in
    Deliveries,
    /// What was refused, and what is wrong with the servers
    Errors,
}
