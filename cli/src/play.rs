//! Saved tails: the NDJSON of `tail --save`, `tail -o ndjson`, `calls export` and the full-screen view's `s`, read back into
//! the updates it was made of, and played at the pace they came at.

mod player;
mod saved_tail;
pub mod tui;

pub use player::{Played, Player};
pub use saved_tail::{LineContent, SavedLine, SavedTail};
