//! The command line of `connections`.

use clap::Subcommand;

/// `connections`.
#[derive(Debug, Subcommand)]
pub enum Connections {
    /// Every live connection of every server process
    Ls,
    /// One connection
    Show {
        /// Its id, or the beginning of it
        #[arg(add = crate::complete::connections())]
        id: String,
    },
    /// Close connections; their clients do not come back by themselves
    Kick {
        /// Their ids, or the beginnings of them
        #[arg(required = true, value_name = "ID", add = crate::complete::connections())]
        ids: Vec<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}
