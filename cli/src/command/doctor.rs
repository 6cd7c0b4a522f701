//! `doctor`: is everything as it should be, from here to the server and back?

use std::time::Duration;

use clap::Args as ClapArgs;

use crate::doctor;
use crate::exit::Result;
use crate::settings::Settings;

/// `doctor`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Exits with 8 where a check failed. Nothing is changed anywhere.")]
pub(crate) struct Doctor {
    /// How long each check may take
    #[arg(long, value_name = "SECS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub(crate) timeout: u64,
}

pub(crate) async fn run(settings: &Settings, args: Doctor) -> Result {
    doctor::run(settings, Duration::from_secs(args.timeout)).await
}
