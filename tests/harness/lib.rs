//! The harness: servers with a database of their own, a signing provider, subscribers. Only this crate knows the API;
//! the tests speak a small language.
//!
//! PostgreSQL is the real one that `CALLSCOPE_TEST_POSTGRES` names (`tests/run` starts it); without it the tests that need
//! it fail.

#![allow(clippy::missing_panics_doc, clippy::unwrap_used, clippy::expect_used)]

pub mod database;
pub mod process;
pub mod pty;
pub mod server;
pub mod services;
pub mod socket;
pub mod subscriber;

pub use database::{Database, Engine};
pub use process::Process;
pub use pty::Pty;
pub use server::Server;
pub use services::{Postgres, Redis};
pub use socket::Socket;
pub use subscriber::Subscriber;

use std::time::Duration;

/// For anything a test waits for. Long, since machines are slow and shared; nothing is measured by it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `is_so` says so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
