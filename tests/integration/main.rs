//! Cross-program tests, on both engines where the engine matters.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod architecture;
mod cleanup;
mod cluster;
mod connections;
mod cursors;
mod deliveries;
mod drain;
mod earlier;
mod file;
mod http;
mod kill;
mod listen;
mod lists;
mod logs;
mod merge;
mod naming;
mod once;
mod peers;
mod settings;
mod slow;
mod storage;
mod store;
mod strangers;
