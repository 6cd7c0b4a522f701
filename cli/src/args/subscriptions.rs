//! The command line of `subscriptions`.

use clap::Subcommand;

/// `subscriptions`.
#[derive(Debug, Subcommand)]
pub enum Subscriptions {
    /// Every followed call
    Ls,
    /// Who follows one call
    Show {
        /// The call's sid, conversation id or call id
        #[arg(add = crate::complete::calls())]
        id: String,
    },
}
