//! Sending webhooks: an [`HttpClient`] posts one request, and a [`Sender`] signs deliveries and sends each until it is
//! answered, to a [`Target`]. All senders share one [`Pace`].

mod delivery;
mod expect;
pub(crate) mod headers;
mod http_client;
mod pace;
mod sender;
mod tamper;
mod target;

pub(crate) use delivery::Delivery;
pub(crate) use expect::Expect;
pub(crate) use http_client::{HttpClient, Unanswered};
pub(crate) use pace::{Pace, Rate};
pub(crate) use sender::{Outcome, Sender};
pub(crate) use tamper::Tamper;
pub(crate) use target::{InvalidUrl, Target, parse_backend_url};
