//! The full-screen view of the whole server.
//!
//! [`TopApp`] is the state, and [`update`] changes it by inputs; both are pure, with the time passed in. [`rows`] makes
//! the rows of a tab from the answers of the server, and [`view`] draws them. The [`Poller`] asks the server and
//! carries out confirmed actions.

mod details;
mod keys;
mod message;
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

pub(crate) use keys::HELP;
pub(crate) use poller::Poller;
pub(crate) use state::TopApp;
pub(crate) use tab::Tab;
