//! Publishes committed notifications to the followers, in this process and in others.
//!
//! Followers get every event without it, because [`reconcile`](super::reconcile) finds the events whose notification
//! was lost. Notifications make events arrive sooner.

use super::Bus;
use crate::live::Hub;
use crate::log::Notification;

/// Where notifications go.
#[derive(Clone, Debug)]
pub enum Announcer {
    /// To followers in this process only.
    Local(Hub),
    /// Also to followers in the other processes on the bus.
    Joined(Hub, Bus),
}

impl Announcer {
    /// Publishes notifications in the order of the log. Never blocks and never fails.
    pub fn publish(&self, notifications: Vec<Notification>) {
        match self {
            Self::Local(hub) => hub.publish(notifications),
            Self::Joined(hub, bus) => {
                hub.publish(notifications.clone());
                bus.publish(notifications);
            }
        }
    }

    /// The link to the other processes, if there is one.
    #[must_use]
    pub fn bus(&self) -> Option<&Bus> {
        match self {
            Self::Local(_) => None,
            Self::Joined(_, bus) => Some(bus),
        }
    }
}
