//! The messages of the [`Poller`](super::Poller) and the requests to it.

use callscope_common::api::{Attempt, CallView, ConnectionView, DeliveryView, Stats, SubscriptionView};
use uuid::Uuid;

use super::tab::Tab;

/// The list of a tab.
#[derive(Debug, Clone)]
pub(crate) enum List {
    Calls(Vec<CallView>),
    Connections(Vec<ConnectionView>),
    Subscriptions(Vec<SubscriptionView>),
    Deliveries(Vec<DeliveryView>),
    Errors(Errors),
}

impl List {
    pub(crate) fn tab(&self) -> Tab {
        match self {
            Self::Calls(_) => Tab::Calls,
            Self::Connections(_) => Tab::Connections,
            Self::Subscriptions(_) => Tab::Subscriptions,
            Self::Deliveries(_) => Tab::Deliveries,
            Self::Errors(_) => Tab::Errors,
        }
    }
}

/// The webhooks that the server refused.
#[derive(Debug, Clone, Default)]
pub(crate) struct Errors {
    /// The newest webhooks with a valid signature that were rejected.
    pub(crate) rejected: Vec<DeliveryView>,
    /// The newest webhooks that were not verified.
    pub(crate) unverified: Vec<Attempt>,
}

/// A change on the server that the user has to confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdminAction {
    /// Close a connection.
    Kick {
        connection: Uuid,
        /// The user and the address of the connection.
        who: String,
    },
    /// Process a delivery again.
    Replay {
        delivery: Uuid,
        /// The kind and the id of the delivery.
        what: String,
    },
}

/// A message of the poller.
#[derive(Debug)]
pub(crate) enum Message {
    /// The statistics of the server and the list of a tab.
    Polled(Box<Stats>, List),
    /// The error message of a poll that failed. The poller goes on.
    Unreachable(String),
    /// The details of the row with this key.
    Detail(Tab, String, Vec<(String, String)>),
    /// The outcome of an action, or its error message.
    Executed(std::result::Result<String, String>),
}

/// A request to the poller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Poll this tab from now on, and at once.
    Poll(Tab),
    /// Ask for the details of the row with this key.
    Detail(Tab, String),
    Execute(AdminAction),
}
