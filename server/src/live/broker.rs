//! Carries announcements from the write path to the followers.

use super::Hub;
use crate::store::ledger::Wake;

/// How announcements travel. Delivery is correct without them (the sweep finds what they missed); they make it quick.
#[derive(Clone, Debug)]
pub enum Broker {
    /// Followers in this process only.
    Local(Hub),
}

impl Broker {
    /// Announces what was committed, in the order of the log. Never blocks, never fails.
    pub fn announce(&self, wakes: Vec<Wake>) {
        match self {
            Self::Local(hub) => hub.announce(wakes),
        }
    }
}
