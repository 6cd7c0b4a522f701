//! The server's HTTP API. [`Client`] has a method for each route, and only `routes` knows their paths. An answer is
//! parsed into a type of `callscope_common::api`; as [`Raw`], it keeps the JSON text that is printed.

mod answer;
mod client;
mod routes;

pub(crate) use answer::{BodyError, Page, Raw, read_body, too_long};
pub(crate) use client::{Client, MAX_ANSWER_BYTES, MAX_LIST_BYTES, TOKEN_HINT, checked_identifier};
pub(crate) use routes::{Query, health_url, stream_url, webhook_url};
