//! Saved tails: the NDJSON of `tail --save`, `tail -o ndjson`, `calls export` and the key `s` of the full-screen view.
//! They are read back into updates and played at their original pace.

mod player;
mod saved_tail;
pub(crate) mod tui;

pub(crate) use player::Player;
pub(crate) use saved_tail::{LineContent, SavedLine, SavedTail};
