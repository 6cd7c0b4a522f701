//! Publishes what was committed to the followers, in this process and in others.
//!
//! Delivery is correct without it, since [`reconcile`](super::reconcile) finds what a lost notification has hidden.
//! Notifications make it quick.

use super::Bus;
use crate::live::Hub;
use crate::store::OnCommit;

/// Returns what publishes the notifications of a commit: to the followers of `hub`, and to those in the processes that
/// the bus joins. It never blocks and never fails.
#[must_use]
pub fn announcer(hub: Hub, bus: Option<Bus>) -> OnCommit {
    Box::new(move |notifications| match &bus {
        None => hub.publish(notifications),
        Some(bus) => {
            hub.publish(notifications.clone());
            bus.publish(notifications);
        }
    })
}
