//! The built client against real servers, in real shells and terminals.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod calls;
mod contexts;
mod docs;
mod doctor;
mod edge_cases;
mod help;
mod hostile;
mod hostile_server;
mod network;
mod proxies;
mod server;
mod shells;
mod top;
