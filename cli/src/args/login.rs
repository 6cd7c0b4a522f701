//! The command lines of `login` and `logout`.

use clap::Args as ClapArgs;

/// `login`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The password is asked for on a terminal, else read from stdin; never give it as an argument.\nA token that \
    somebody gave you: callscope login --with-token < token.txt"
)]
pub struct Login {
    /// Your name at the server; asked for where it is missing
    #[arg(long, value_name = "NAME", conflicts_with = "with_token")]
    pub username: Option<String>,
    /// Keep a token that is read from stdin, instead of asking the server for one
    #[arg(long)]
    pub with_token: bool,
    /// Keep it under this name [default: the context in force, else the server's host]
    #[arg(long, value_name = "NAME")]
    pub save_as: Option<String>,
}

/// `logout`.
#[derive(Debug, ClapArgs)]
pub struct Logout {
    /// The context to log out of [default: the one in force]
    #[arg(add = crate::complete::contexts())]
    pub name: Option<String>,
}
