//! Sending signed webhooks: to a [`Target`], by a [`Courier`] that tries until it is answered, at a [`Pace`] shared by all.

mod courier;
mod expect;
mod pace;
mod tamper;
mod target;

pub use courier::{Courier, Outcome, unix_now};
pub use expect::Expect;
pub use pace::Pace;
pub use tamper::Tamper;
pub use target::{Target, backend};
