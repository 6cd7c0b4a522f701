//! The live stream: who follows which call, and how each gets its events.
//!
//! Per subscription, events come in `seq` order, none missing, none twice. What makes it so:
//! 1. A subscriber holds a cursor, not a queue: the next event it is owed is `cursor + 1`. The cursor moves only once the
//!    event's bytes are in the socket or in the connection's own output buffer, and it moves by whole events.
//! 2. An event is announced only after its commit. Whoever misses the announcement finds the event in the database.
//! 3. A subscription joins its call's [`feed`] first and reads the log's head afterwards, so nothing falls in between.
//! 4. A subscription is *caught_up* while it is owed nothing; the feed writes only to caught_up ones, its session only to the
//!    others. The switch happens under the connection's lock, where the session compares its cursor with the feed's head;
//!    the feed raises its head before it looks at any connection. So either the session sees the new head, or the feed
//!    sees it caught_up: nobody is left behind.
//! 5. [`reconcile`](crate::cluster::reconcile) compares heads with the database, for announcements that never came.
//!
//! - [`hub`]: what is followed in this process, and every connection
//! - [`feed`]: one followed call, or a part of its followers where there are many
//! - `workers`: the threads that run the feeds
//! - [`connection`]: one connection's socket, output and subscriptions, registry by its session and its feeds
//! - [`session`]: one connection's task: requests, catching up, pings, deadlines, close
//! - [`socket`]: what a connection's bytes go through
//! - [`probe`]: a follower inside the process, which shows whether the way of an event is open

pub mod connection;
mod delivery_watchers;
pub mod feed;
pub(crate) mod frame;
pub mod hub;
pub mod probe;
mod rate_limit;
#[cfg(test)]
mod reference_model;
pub mod session;
pub mod socket;
mod workers;

pub use connection::Connection;
pub use hub::Hub;
