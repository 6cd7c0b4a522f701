//! Cross-program tests, on both engines where the engine matters.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod architecture;
mod cleanup;
mod cluster;
mod kill;
mod merge;
mod once;
mod settings;
mod slow;
mod store;
