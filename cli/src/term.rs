//! The engine of every full-screen view. It knows none of the views.
//!
//! [`event_loop`] joins a state with the terminal, and [`screen`] restores the terminal on every way out. [`palette`], [`text_input`],
//! [`mod@drawable`] and [`mod@draw`] are the pieces that views are drawn of.

pub mod backend;
pub mod draw;
pub mod drawable;
pub mod event_loop;
pub mod palette;
pub mod screen;
mod signals;
pub mod text_input;

pub use draw::{draw_if_too_small, put_ends, put_text};
