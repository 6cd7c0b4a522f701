//! The command line of `play`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use crate::replay::Speed;

/// `play`.
#[derive(Debug, ClapArgs)]
pub struct Play {
    /// A saved tail (`callscope tail ID --save FILE`); - for stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How fast: 1x, 10x, max [default: 1x full-screen, max as lines]
    #[arg(long, value_name = "SPEED")]
    pub speed: Option<Speed>,
    /// Plain lines, also on a terminal
    #[arg(long)]
    pub plain: bool,
    /// Date and time before each line
    #[arg(short = 't', long)]
    pub timestamps: bool,
}
