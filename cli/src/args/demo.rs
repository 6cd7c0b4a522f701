//! The command line of `demo`.

use clap::Args as ClapArgs;

use crate::replay::Speed;

/// `demo`.
#[derive(Debug, ClapArgs)]
pub struct Demo {
    /// A shipped sample (`callscope samples ls`)
    #[arg(value_name = "SAMPLE", default_value = "tow-truck")]
    pub sample: String,
    /// How fast the call is spoken: 1x, 10x, max
    #[arg(long, default_value = "1x", value_name = "SPEED")]
    pub speed: Speed,
    /// Plain lines, also on a terminal
    #[arg(long)]
    pub plain: bool,
}
