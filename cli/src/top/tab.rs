//! The tabs of `top`.

use clap::ValueEnum;

/// A list of the server that `top` shows.
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

impl Tab {
    /// Every tab, in the order of the screen.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Its place among [`Tab::all`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name on the screen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calls => "Calls",
            Self::Connections => "Connections",
            Self::Subscriptions => "Subscriptions",
            Self::Deliveries => "Deliveries",
            Self::Errors => "Errors",
        }
    }
}
