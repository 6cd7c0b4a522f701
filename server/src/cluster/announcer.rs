//! Carries announcements from the write path to the followers, in this process and in others.
//!
//! Delivery is correct without it: the [`sweep`](super::reconcile) finds what an announcement that was lost, doubled or late hid.
//! Announcements make it quick.

use super::Bus;
use crate::live::Hub;
use crate::log::Notification;

/// How announcements travel.
#[derive(Clone, Debug)]
pub enum Announcer {
    /// Followers in this process only.
    Local(Hub),
    /// And in the processes that the bus joins.
    Joined(Hub, Bus),
}

impl Announcer {
    /// Announces what was committed, in the order of the log. Never blocks, never fails.
    pub fn publish(&self, notifications: Vec<Notification>) {
        match self {
            Self::Local(hub) => hub.publish(notifications),
            Self::Joined(hub, bus) => {
                hub.publish(notifications.clone());
                bus.publish(notifications);
            }
        }
    }

    /// The link to the other processes, where there is one.
    #[must_use]
    pub fn bus(&self) -> Option<&Bus> {
        match self {
            Self::Local(_) => None,
            Self::Joined(_, bus) => Some(bus),
        }
    }
}
