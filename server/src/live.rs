//! The live stream: which connection follows which call, and how each gets its events.
//!
//! Each subscription gets the events of its call in `seq` order, none missing, none twice. Five points prove it:
//! 1. **A subscriber holds a cursor, not a queue.** The next event it is owed is `cursor + 1`. The cursor moves by
//!    whole events, and only once the bytes of the event are in the socket or in the connection's own output buffer.
//! 2. **An event is published after its commit.** A subscription that misses the notification finds the event in the
//!    database.
//! 3. **A subscription first joins the call's [`feed`], then reads the head of the log.** An event that is committed in
//!    between is in the head or in a notification, or in both.
//! 4. **One writer at a time.** A subscription is *caught up* while it is owed nothing as far as is known. The feed
//!    writes only to subscriptions that are caught up, the session only to the others. The switch happens under the
//!    connection's lock: the session compares the cursor with the head and then declares the subscription caught up.
//!    The feed raises the head before it looks at any connection. So either the session sees the new head, or the feed
//!    sees the subscription caught up.
//! 5. **Heads are compared with the database** ([`reconcile`]), so that a notification that was lost delays an event
//!    and does not hide it.
//!
//! Imports go one way, from each line to those below it; only the parent module sees all of them:
//! - [`session`]: the task of one connection: requests, catching up, pings, deadlines, close
//! - [`probe`] and [`reconcile`]: a follower inside the process; the comparison with the database
//! - [`hub`]: the registry of connections, followed calls and awaited identifiers
//! - `workers`: the threads that run the feeds
//! - `followed_calls`: each followed call with its feeds
//! - [`feed`]: the fan-out of one call, or of a part of its followers if it has many
//! - [`connection`]: socket, output and subscriptions of one connection, shared by its session and the feeds
//! - `log_tail`: head and newest frames of one call, written by its feed, read by its subscriptions
//! - `frame`, [`socket`]: encoded messages, and what they go through
//!
//! Signals go the other way, from hub and feed to the session, through the [`connection`], which bounds them.

pub mod connection;
mod delivery_watchers;
pub mod feed;
mod followed_calls;
pub(crate) mod frame;
pub mod hub;
mod log_tail;
pub mod probe;
mod rate_limit;
pub mod reconcile;
#[cfg(test)]
mod reference_model;
pub mod session;
pub mod socket;
mod workers;

pub use connection::Connection;
pub use hub::Hub;
