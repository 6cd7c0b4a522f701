//! The registry of connections in use, and the limits of live ones.
//!
//! A *live* connection, such as a WebSocket, holds a [`LivePermit`] as long as it lasts. Live connections are limited
//! in all, by token and by address, so that descriptors stay free for webhooks, health checks and the database. A plain
//! request is registered while it is in progress, so that the [`reaper`](crate::transport::reaper) leaves its
//! connection alone.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tracing::{field, warn};

use crate::telemetry::refusals;
use crate::transport::descriptors;

/// Number of locks that the busy peers are spread over, so that requests on different threads seldom contend.
const SHARDS: usize = 16;

/// The limits of live connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// All live connections.
    pub all: u64,
    /// Live connections of one token.
    pub per_token: u64,
    /// Live connections from one IP address.
    pub per_address: u64,
}

/// Returns how many of `limit` descriptors are kept for other uses than live connections: a twentieth, but at least 128
/// and at most half.
#[must_use]
pub fn descriptor_reserve(limit: u64) -> u64 {
    (limit / 20).max(128).min(limit / 2)
}

/// Returns how many descriptors are left for live connections, after the reserve and the descriptors that are open now.
/// At least one is left.
#[must_use]
pub fn descriptors_for_live_connections() -> u64 {
    let Some(limit) = descriptors::limit() else { return u64::MAX };
    limit.saturating_sub(descriptor_reserve(limit)).saturating_sub(descriptors::open_count()).max(1)
}

/// A handle to the registry; cheap to clone.
#[derive(Debug, Clone)]
pub struct ConnectionRegistry(Arc<RegistryState>);

#[derive(Debug)]
struct RegistryState {
    limits: ConnectionLimits,
    live: Mutex<LiveCounts>,
    /// How many requests in progress and live connections each peer has, by the hash of its address.
    busy: [Mutex<HashMap<u64, u32>>; SHARDS],
    hasher: RandomState,
    /// How many connections were refused, by [`LimitReached`].
    refused: [AtomicU64; 3],
}

#[derive(Debug, Default)]
struct LiveCounts {
    all: u64,
    tokens: HashMap<TokenHash, u64>,
    addresses: HashMap<IpAddr, u64>,
}

/// Identifies a token without holding it.
type TokenHash = u64;

/// The limit that refuses a live connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitReached {
    /// The limit of all live connections.
    All,
    /// The limit of one token.
    Token,
    /// The limit of one address.
    Address,
}

/// Counts one live connection until it is dropped.
#[derive(Debug)]
pub struct LivePermit {
    registry: Arc<RegistryState>,
    token: TokenHash,
    peer: Option<SocketAddr>,
}

/// A request in progress. Its connection is busy until this is dropped.
#[derive(Debug)]
pub(crate) struct RequestInProgress {
    registry: Arc<RegistryState>,
    peer_hash: u64,
}

impl ConnectionRegistry {
    /// Makes an empty registry.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Self {
        Self(Arc::new(RegistryState {
            limits,
            live: Mutex::default(),
            busy: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            refused: Default::default(),
        }))
    }

    /// Admits a live connection of the holder of `token`.
    ///
    /// # Errors
    /// Returns the limit that is reached.
    pub fn admit(&self, token: &str, peer: Option<SocketAddr>) -> Result<LivePermit, LimitReached> {
        let address = peer.map(|peer| peer.ip().to_canonical());
        let token = self.0.hasher.hash_one(token);
        let ConnectionLimits { all, per_token, per_address } = self.0.limits;
        let reached = {
            let mut live = self.0.live.lock();
            let of_token = live.tokens.get(&token).copied().unwrap_or(0);
            let of_address = address.and_then(|address| live.addresses.get(&address).copied()).unwrap_or(0);
            if of_token >= per_token {
                Some((LimitReached::Token, of_token))
            } else if of_address >= per_address {
                Some((LimitReached::Address, of_address))
            } else if live.all >= all {
                Some((LimitReached::All, live.all))
            } else {
                live.all += 1;
                *live.tokens.entry(token).or_default() += 1;
                if let Some(address) = address {
                    *live.addresses.entry(address).or_default() += 1;
                }
                None
            }
        };
        match reached {
            Some((limit, connections)) => Err(self.refuse(limit, connections, address)),
            None => {
                if let Some(peer) = peer {
                    self.0.increment_busy(self.0.hasher.hash_one(peer));
                }
                Ok(LivePermit { registry: Arc::clone(&self.0), token, peer })
            }
        }
    }

    /// Counts and logs a refusal.
    fn refuse(&self, limit: LimitReached, connections: u64, address: Option<IpAddr>) -> LimitReached {
        let refused = self.0.refused[limit as usize].fetch_add(1, Ordering::Relaxed) + 1;
        if refusals::may_log(|| limit.as_str().to_owned()) {
            warn!(connections, address = address.map(field::display), refused, "{}", limit.as_str());
        }
        limit
    }

    /// Returns the number of live connections.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.0.live.lock().all
    }

    /// Returns how many connections were refused since the process started, by limit: all, one token, one address.
    #[must_use]
    pub fn refused(&self) -> [u64; 3] {
        std::array::from_fn(|at| self.0.refused[at].load(Ordering::Relaxed))
    }

    /// Whether the connection of a peer has a request in progress or is live.
    #[must_use]
    pub fn is_busy(&self, peer: SocketAddr) -> bool {
        let peer_hash = self.0.hasher.hash_one(peer);
        self.0.shard(peer_hash).lock().contains_key(&peer_hash)
    }

    /// Registers a request of this peer.
    pub(crate) fn request_started(&self, peer: SocketAddr) -> RequestInProgress {
        let peer_hash = self.0.hasher.hash_one(peer);
        self.0.increment_busy(peer_hash);
        RequestInProgress { registry: Arc::clone(&self.0), peer_hash }
    }
}

impl RegistryState {
    fn shard(&self, peer_hash: u64) -> &Mutex<HashMap<u64, u32>> {
        &self.busy[peer_hash as usize % SHARDS]
    }

    fn increment_busy(&self, peer_hash: u64) {
        *self.shard(peer_hash).lock().entry(peer_hash).or_default() += 1;
    }

    fn decrement_busy(&self, peer_hash: u64) {
        let mut counts = self.shard(peer_hash).lock();
        if let Some(count) = counts.get_mut(&peer_hash) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&peer_hash);
            }
        }
    }
}

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        self.registry.decrement_busy(self.peer_hash);
    }
}

impl Drop for LivePermit {
    fn drop(&mut self) {
        fn decrement<K: Eq + Hash>(counts: &mut HashMap<K, u64>, key: &K) {
            if let Some(count) = counts.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
        let mut live = self.registry.live.lock();
        live.all -= 1;
        decrement(&mut live.tokens, &self.token);
        if let Some(peer) = self.peer {
            decrement(&mut live.addresses, &peer.ip().to_canonical());
            drop(live);
            self.registry.decrement_busy(self.registry.hasher.hash_one(peer));
        }
    }
}

impl LimitReached {
    /// Returns the text of the error and of the log line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "no room for further connections",
            Self::Token => "no room for further connections of one token",
            Self::Address => "no room for further connections from one address",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_limited_in_all_by_token_and_by_address_until_they_end() {
        let connections = ConnectionRegistry::new(ConnectionLimits { all: 4, per_token: 2, per_address: 3 });
        let at = |text: &str| Some(text.parse().unwrap());
        let first = connections.admit("a", at("10.0.0.1:1")).unwrap();
        let second = connections.admit("a", at("10.0.0.2:1")).unwrap();
        assert_eq!(connections.admit("a", at("10.0.0.3:1")).map(|_| ()), Err(LimitReached::Token));
        let third = connections.admit("b", at("[::ffff:10.0.0.1]:2")).unwrap();
        let fourth = connections.admit("c", at("10.0.0.1:3")).unwrap();
        assert_eq!(connections.admit("d", at("10.0.0.1:4")).map(|_| ()), Err(LimitReached::Address));
        assert_eq!(connections.admit("d", at("10.0.0.4:4")).map(|_| ()), Err(LimitReached::All));
        assert_eq!((connections.live(), connections.refused()), (4, [1, 1, 1]));
        drop(fourth);
        let again = connections.admit("d", at("10.0.0.1:5")).unwrap();
        drop((first, second, third, again));
        assert_eq!(connections.live(), 0);
        assert!(connections.0.live.lock().tokens.is_empty() && connections.0.live.lock().addresses.is_empty());
    }

    #[test]
    fn a_peer_is_busy_while_a_request_or_a_live_connection_lasts() {
        let connections = ConnectionRegistry::new(ConnectionLimits { all: 9, per_token: 9, per_address: 9 });
        let peer = "10.0.0.1:1".parse().unwrap();
        let request = connections.request_started(peer);
        let live = connections.admit("a", Some(peer)).unwrap();
        drop(request);
        assert!(connections.is_busy(peer));
        drop(live);
        assert!(!connections.is_busy(peer));
    }

    #[test]
    fn the_descriptor_reserve_is_a_twentieth_within_bounds() {
        assert_eq!([64, 256, 1_024, 20_000, 1_000_000].map(descriptor_reserve), [32, 128, 128, 1_000, 50_000]);
    }
}
