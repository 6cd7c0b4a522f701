//! Tests of servers and stores through their public interfaces, on both database engines if the engine matters.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod architecture;
mod cluster;
mod connection_cleanup;
mod connection_limits;
mod crash;
mod cursors;
mod database_outages;
mod dead_peers;
mod dedup;
mod deliveries;
mod drain;
mod earlier_versions;
mod http;
mod limited_tokens;
mod listen;
mod log_output;
mod merge;
mod naming;
mod settings;
mod slow_consumers;
mod sqlite_file;
mod store;
mod style;
mod unsigned_senders;
