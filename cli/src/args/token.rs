//! The command line of `token`.

use clap::Subcommand;

/// `token`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Have the server make a token (admin); it is printed and kept nowhere
    Create {
        /// Whom it is for
        #[arg(long, value_name = "NAME")]
        sub: String,
        /// What it allows: viewer or admin
        #[arg(long, default_value = "viewer", value_parser = ["viewer", "admin"])]
        role: String,
        /// How long it holds: 30m, 8h, 7d
        #[arg(long, value_name = "TIME", default_value = "8h")]
        ttl: String,
        /// Only for this call, by any identifier; may be repeated
        #[arg(long = "call", value_name = "ID", add = crate::complete::calls())]
        calls: Vec<String>,
    },
    /// The tokens the server made and not yet forgot (admin)
    Ls,
    /// What a token says: whose, for what, until when; needs no server
    Inspect {
        /// A file that holds it, or `-` for stdin [default: the token in force]
        #[arg(value_name = "FILE")]
        file: Option<String>,
    },
    /// End a token before its time; its live connections too (admin)
    Revoke {
        /// The token's id (`jti`), as create and inspect show it
        #[arg(value_name = "JTI")]
        jti: String,
    },
}
