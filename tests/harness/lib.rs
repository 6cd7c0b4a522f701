//! The harness: servers with databases of their own, processes, terminals, a signing provider and subscribers. Only
//! this crate knows the API, and the tests use its vocabulary.
//!
//! `CALLSCOPE_TEST_POSTGRES` names the PostgreSQL that `tests/run` starts. Tests that need a PostgreSQL fail without
//! it.

#![allow(clippy::missing_panics_doc, clippy::unwrap_used, clippy::expect_used)]
#![allow(missing_docs, reason = "only tests and tools use it; what a name does not say is documented")]

pub mod database;
pub mod process;
pub mod pty;
pub mod saved;
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

/// Limit of everything that a test waits for. It is long, because machines are slow and shared, and nothing is measured
/// by it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the value below which the share `of` the sorted values lies.
pub fn quantile<T: Copy + Default>(sorted: &[T], of: f64) -> T {
    let at = (sorted.len() as f64 * of).ceil().max(1.0) as usize - 1;
    sorted.get(at).copied().unwrap_or_default()
}

/// Waits until `is_so` returns true.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
