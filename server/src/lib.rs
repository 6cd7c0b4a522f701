//! The Callscope server.

pub mod auth;
pub mod embedded;
pub mod live;
pub mod settings;
pub mod store;
