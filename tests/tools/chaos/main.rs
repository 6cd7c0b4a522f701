//! Injects faults into running servers and their services while calls go on. Then it checks that every acknowledged
//! delivery is in its call's log once and that every subscriber got every event once, in order.
//!
//! - [`flags`], [`outcome`]: the command line and the result
//! - [`plan`], [`ledger`]: the deliveries of each call, and what was sent and acknowledged
//! - [`provider`], [`follower`], [`follower_kind`], [`socket`], [`subscription`]: the provider and the followers
//! - [`reused_names`]: calls that are deleted and made again under the same name; [`restore`]: an older database
//! - [`schedule`], [`faults`], [`outsider`], [`disturbances`]: faults, when they are injected, and delays they excuse
//! - [`setup`], [`cluster`], [`node`], [`proxy`], [`disk`] and `callscope_tests::services`: what the faults break
//! - [`check`], [`violations`]: whether the promise held

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the outcome goes to stdout, and an error of the program itself panics"
)]

mod check;
mod cluster;
mod disk;
mod disturbances;
mod faults;
mod flags;
mod follower;
mod follower_kind;
mod ledger;
mod node;
mod outcome;
mod outsider;
mod plan;
mod provider;
mod proxy;
mod restore;
mod reused_names;
mod run;
mod schedule;
mod setup;
mod socket;
mod subscription;
mod violations;

use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use faults::Fault;
use flags::Flags;
use run::run;

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    let faults = match flags.engine().and_then(|_| Fault::parse(&flags.faults)) {
        Ok(faults) => faults,
        Err(message) => {
            eprintln!("tests/chaos: {message}");
            return ExitCode::from(2);
        }
    };
    let seed = flags.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    if !flags.quiet {
        eprintln!("seed {seed}");
    }
    let mut scratch = tempfile::Builder::new().prefix("callscope-chaos.").tempdir().unwrap();
    // PostgreSQL runs as another user, who has to enter the folder.
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    if flags.keep {
        scratch.disable_cleanup(true);
        eprintln!("kept: {}", scratch.path().display());
    }
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate()).unwrap(), signal(SignalKind::interrupt()).unwrap());
    let mut stop_signal = std::pin::pin!(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    // Processes are killed when their handles are dropped, as after a panic. `stop` ends them in order.
    let cluster = tokio::select! {
        cluster = setup::start_cluster(&flags, seed, &faults, scratch.path()) => Arc::new(cluster),
        () = &mut stop_signal => return ExitCode::from(130),
    };
    let outcome = tokio::select! {
        outcome = run(&flags, seed, faults, &cluster) => Some(outcome),
        () = &mut stop_signal => None,
    };
    cluster.stop().await;
    let Some(outcome) = outcome else { return ExitCode::from(130) };
    println!("{}", if flags.json { format!("{:#}", outcome.json()) } else { outcome.table() });
    if outcome.promise_held() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
