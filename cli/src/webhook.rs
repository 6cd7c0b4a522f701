//! Sending webhooks: a [`Sender`] posts one request, and a [`Courier`] signs deliveries and sends each until it is
//! answered, to a [`Target`] and at a [`Pace`] that all share.

mod courier;
mod delivery;
mod expect;
pub mod headers;
mod pace;
mod sender;
mod tamper;
mod target;

pub use courier::{Courier, Outcome};
pub use delivery::{Delivery, Route};
pub use expect::Expect;
pub use pace::{Pace, Rate};
pub use sender::{Sender, Unanswered};
pub use tamper::Tamper;
pub use target::{InvalidUrl, Target, backend};
