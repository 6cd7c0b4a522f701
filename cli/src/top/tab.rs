//! The tabs of `top`.

use clap::ValueEnum;

/// A list that `top` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Tab {
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
    /// Returns every tab, in the order of the screen.
    pub(crate) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Returns the place of the tab among [`Tab::all`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Calls => "Calls",
            Self::Connections => "Connections",
            Self::Subscriptions => "Subscriptions",
            Self::Deliveries => "Deliveries",
            Self::Errors => "Errors",
        }
    }
}
