//! The built program against real servers, in real shells and terminals.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod calls;
mod contexts;
mod docs;
mod doctor;
mod help;
mod hostile;
mod hostile_server;
mod network;
mod server;
mod shells;
mod small;
mod terminal;
mod top;
mod way;
