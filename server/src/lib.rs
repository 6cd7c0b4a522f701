//! The Callscope server.

pub mod embedded;
