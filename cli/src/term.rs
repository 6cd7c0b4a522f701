//! The engine of every full-screen view.
//!
//! [`stage`] joins a state with the terminal, and [`screen`] keeps the promise to give it back; [`palette`], [`mod@line`], [`glyph`] and
//! [`mod@draw`] are the pieces that views are drawn of.

pub mod draw;
pub mod glyph;
pub mod line;
pub mod palette;
pub mod rows;
pub mod screen;
mod signals;
pub mod stage;

pub use draw::{ends, put, too_small};
