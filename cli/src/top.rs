//! The full-screen view of the whole server.
//!
//! [`TopApp`] is the state and [`update`] how inputs change it: pure, with the time passed in. [`rows`] makes the rows of a tab
//! of what the server said, [`view`] draws them. The [`Poller`] asks the server and carries out what was confirmed.

mod data;
mod details;
mod keys;
mod poller;
mod rates;
mod rows;
mod state;
mod tab;
#[cfg(test)]
mod top_tests;
mod update;
mod view;
#[cfg(test)]
mod view_tests;

pub use keys::HELP;
pub use poller::Poller;
pub use state::TopApp;
pub use tab::Tab;
