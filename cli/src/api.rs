//! The server's HTTP API. [`Client`] has a method for each route; the module of these methods is the only place
//! that knows paths. An answer is read into a type of `callscope_common::api`, as [`Raw`] where its text is printed
//! too.

mod answer;
mod client;
mod routes;

pub(crate) use answer::{Page, Raw, Unread, body, too_long};
pub(crate) use client::{Client, LONGEST, LONGEST_LIST, TOKEN_HINT, checked};
pub(crate) use routes::{Query, health_url, stream_url, webhook_url};
