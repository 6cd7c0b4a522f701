//! The server's HTTP API: [`client`] asks it, [`calls`] lists what can be followed, [`list`](mod@items) bounds what an answer may hold.

mod calls;
mod client;
mod items;

pub use calls::{live as live_calls, recent as recent_calls};
pub use client::{Client, LONGEST, LONGEST_LIST, TOKEN_HINT, Unread, body, checked, endpoint, too_long};
pub use items::items;
