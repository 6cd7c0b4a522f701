//! `listen`: follows what comes in and forwards it.

use crate::args::Listen;
use crate::exit::Result;
use crate::listen;
use crate::settings::Settings;

/// Runs it.
pub async fn run(settings: &Settings, args: Listen) -> Result {
    listen::run(settings, args).await
}
