//! The engine of every full-screen view. It knows none of the views.
//!
//! [`event_loop`] joins a state with the terminal, and [`screen`] restores the terminal on every way out. Views are
//! drawn with [`palette`], [`text_input`], [`mod@drawable`] and [`mod@draw`].

pub(crate) mod backend;
pub(crate) mod draw;
pub(crate) mod drawable;
pub(crate) mod event_loop;
pub(crate) mod palette;
#[cfg(test)]
mod panic_tests;
pub(crate) mod prompt;
pub(crate) mod screen;
mod signals;
pub(crate) mod text_input;

pub(crate) use draw::{draw_if_too_small, put_ends, put_text};
