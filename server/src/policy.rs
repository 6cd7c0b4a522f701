//! Deadlines, rates and limits that settings decide and other modules apply, as plain values.

use std::time::Duration;

/// Bytes that the bodies of arriving webhooks may take in memory together, apart from the first chunk of each.
pub const BODY_MEMORY: u64 = 512 << 20;

/// Whether webhooks must be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookAuth {
    /// A webhook without a valid signature is refused.
    Required,
    /// Unsigned webhooks are accepted, which is allowed only on a loopback address.
    Off,
}

/// The deadlines of a live connection.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Time between two pings.
    pub ping_interval: Duration,
    /// Time without a pong after which the connection is closed with 4201.
    pub pong_timeout: Duration,
    /// Time without progress of a write that waits for the peer, after which the connection is closed with 4101.
    pub write_deadline: Duration,
    /// Time without an answer of the storage that a subscription needs, after which the connection is closed with 4104.
    pub storage_deadline: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(60),
            write_deadline: Duration::from_secs(10),
            storage_deadline: Duration::from_secs(60),
        }
    }
}

/// How long an HTTP connection may stay open while no request is in progress.
#[derive(Debug, Clone, Copy)]
pub struct IdleTimeouts {
    /// Time for the head of a request and the first bytes of its body to arrive.
    pub head: Duration,
    /// Time between two requests.
    pub idle: Duration,
}

/// How live connections are sent to other servers before this one ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DrainPolicy {
    /// How many clients are told to leave a second.
    pub rate: f64,
    /// Time after which every remaining connection is closed. A client whose turn would come later is told so and waits
    /// for its turn after it has disconnected.
    pub deadline: Duration,
}

/// How many headers and bodies of deliveries are kept, and for how long; 0 means without limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryRetention {
    /// Days for which headers and bodies are kept.
    pub days: u32,
    /// Megabytes (2^20 bytes) of headers and bodies that are kept, the newest first.
    pub megabytes: u32,
}

impl DeliveryRetention {
    /// Whether there is any limit.
    #[must_use]
    pub fn is_bounded(self) -> bool {
        self != Self::default()
    }
}
