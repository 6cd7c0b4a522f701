//! The command line of `context`.

use clap::Subcommand;

use crate::complete;

/// `context`.
#[derive(Debug, Subcommand)]
pub enum Context {
    /// The contexts, and which is in use
    Ls,
    /// Use this context where none is named
    Use {
        /// Its name
        #[arg(add = complete::contexts())]
        name: String,
    },
    /// Add a context; the first one is in use at once. With --token-file, its token is read from there
    Add {
        /// What to call it: letters, digits, `.`, `_`, `-`
        name: String,
        /// The server's URL
        #[arg(value_name = "URL")]
        url: String,
        /// Take its place where there is one of that name
        #[arg(long)]
        force: bool,
    },
    /// Remove a context, and its token
    Rm {
        /// Its name
        #[arg(add = complete::contexts())]
        name: String,
    },
}
