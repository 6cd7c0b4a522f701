//! The command line of `samples`.

use clap::Subcommand;

/// `samples`.
#[derive(Debug, Subcommand)]
pub enum Samples {
    /// Their names
    Ls,
    /// Print one
    Show {
        /// Its name
        #[arg(add = crate::complete::samples())]
        name: String,
    },
}
