//! The harness: servers with databases of their own, processes, terminals, a signing provider and subscribers. Tests
//! use the server's API through its types.
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
pub mod usage;

pub use database::{Database, Engine};
pub use process::Process;
pub use pty::Pty;
pub use server::Server;
pub use services::{Postgres, Redis};
pub use socket::Socket;
pub use subscriber::Subscriber;

use std::time::Duration;

/// Timeout of each wait in a test. It is long, because machines are slow and shared. No test measures time with it.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns a quantile of the sorted values (0.5 is the median), or the default value if there are none.
pub fn quantile<T: Copy + Default>(sorted: &[T], quantile: f64) -> T {
    let index = (sorted.len() as f64 * quantile).ceil().max(1.0) as usize - 1;
    sorted.get(index).copied().unwrap_or_default()
}

/// Waits until `condition` returns true.
pub async fn until(description: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + WAIT_TIMEOUT;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "timed out waiting until {description}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
