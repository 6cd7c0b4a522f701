//! What the server says of itself, as `top` asks it.

use callscope_common::api::{Attempt, CallView, ConnectionView, DeliveryView, Stats, SubscriptionView};
use uuid::Uuid;

use super::tab::Tab;

/// What a tab shows.
#[derive(Debug, Clone)]
pub enum List {
    /// The newest calls.
    Calls(Vec<CallView>),
    /// All connections.
    Connections(Vec<ConnectionView>),
    /// All followed calls.
    Subscriptions(Vec<SubscriptionView>),
    /// The newest deliveries.
    Deliveries(Vec<DeliveryView>),
    /// What is wrong.
    Errors(Errors),
}

impl List {
    /// The tab it is for.
    pub fn tab(&self) -> Tab {
        match self {
            Self::Calls(_) => Tab::Calls,
            Self::Connections(_) => Tab::Connections,
            Self::Subscriptions(_) => Tab::Subscriptions,
            Self::Deliveries(_) => Tab::Deliveries,
            Self::Errors(_) => Tab::Errors,
        }
    }
}

/// What is wrong.
#[derive(Debug, Clone, Default)]
pub struct Errors {
    /// The newest webhooks that verified and made no sense.
    pub rejected: Vec<DeliveryView>,
    /// The newest that did not verify.
    pub unverified: Vec<Attempt>,
}

/// Something that changes the server, and is asked about first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAction {
    /// Close a connection.
    Kick {
        /// Which.
        connection: Uuid,
        /// Whose, in words.
        who: String,
    },
    /// Take a delivery in once more.
    Replay {
        /// Which.
        delivery: Uuid,
        /// What it is, in words.
        what: String,
    },
}

/// What the server said.
#[derive(Debug)]
pub enum Message {
    /// What it counts, and the list of a tab.
    Polled(Box<Stats>, List),
    /// It did not answer, or said no; in words.
    Unreachable(String),
    /// All there is of a row, as lines of a name and a text.
    Detail(Tab, String, Vec<(String, String)>),
    /// How an action went, in words.
    Executed(std::result::Result<String, String>),
}

/// What is wanted of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Look at this tab from now on, and at once.
    Poll(Tab),
    /// All there is of the row with this key.
    Detail(Tab, String),
    /// This was confirmed.
    Execute(AdminAction),
}
