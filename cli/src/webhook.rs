//! Sending webhooks: a [`Sender`] posts one request, and a [`Courier`] signs deliveries and sends each until it is
//! answered, to a [`Target`] and at a [`Pace`] that all share.

mod courier;
mod delivery;
mod expect;
pub(crate) mod headers;
mod pace;
mod sender;
mod tamper;
mod target;

pub(crate) use courier::{Courier, Outcome};
pub(crate) use delivery::{Delivery, Route};
pub(crate) use expect::Expect;
pub(crate) use pace::{Pace, Rate};
pub(crate) use sender::{Sender, Unanswered};
pub(crate) use tamper::Tamper;
pub(crate) use target::{InvalidUrl, Target, backend};
