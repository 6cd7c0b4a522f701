//! The health of the link: whether this process's echoes come back, and whether every peer is heard.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tracing::info;

/// The link is down if no echo has come back for this long. A peer counts as unheard if no message of it has arrived
/// for this long.
pub(super) const ECHO_TIMEOUT: Duration = Duration::from_millis(600);

/// Whether the notifications of other processes are complete. Each change is a reason to reconcile at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkHealth {
    /// Whether the link is up and every live process is heard.
    pub is_complete: bool,
    /// Number of reports of other processes that they dropped notifications.
    pub gaps: u64,
}

/// Tracks echoes and peers, and derives the health of the link from them.
pub(super) struct Monitor {
    is_up: AtomicBool,
    health: watch::Sender<LinkHealth>,
    peers: Mutex<Peers>,
    started_at: Instant,
    /// When an echo last came back in each channel, in microseconds since `started_at`; 0 if none has yet.
    last_echoes: RwLock<Vec<AtomicU64>>,
}

#[derive(Debug, Default)]
struct Peers {
    /// The other processes that are alive according to the database.
    alive: Vec<String>,
    last_heard: HashMap<String, Instant>,
}

impl Monitor {
    pub fn new() -> Self {
        Self {
            is_up: AtomicBool::new(false),
            health: watch::Sender::new(LinkHealth::default()),
            peers: Mutex::default(),
            started_at: Instant::now(),
            last_echoes: RwLock::default(),
        }
    }

    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::SeqCst)
    }

    pub fn subscribe(&self) -> watch::Receiver<LinkHealth> {
        self.health.subscribe()
    }

    /// Records a new connection. None of its channels has brought an echo yet.
    pub fn connected(&self, channels: usize) {
        *self.last_echoes.write() = (0..channels).map(|_| AtomicU64::new(0)).collect();
    }

    pub fn disconnected(&self) {
        self.take_down();
        self.refresh_health();
        self.last_echoes.write().clear();
    }

    /// Declares the link down; returns whether it was up.
    pub fn take_down(&self) -> bool {
        self.is_up.swap(false, Ordering::SeqCst)
    }

    /// Time since this monitor was created.
    pub fn elapsed(&self) -> Duration {
        self.started_at.elapsed()
    }

    /// When an echo last came back in the channel that has waited longest, counted as [`elapsed`](Self::elapsed) is;
    /// zero if a channel has had none.
    pub fn oldest_echo(&self) -> Duration {
        let oldest = self.last_echoes.read().iter().map(|echo| echo.load(Ordering::Relaxed)).min();
        Duration::from_micros(oldest.unwrap_or(0))
    }

    /// Records an echo that came back. The link is up once every channel has had one in time.
    pub fn record_echo(&self, channel: usize) {
        let now = u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(last_echo) = self.last_echoes.read().get(channel) {
            last_echo.store(now, Ordering::Relaxed);
        }
        let is_in_time = self.elapsed().saturating_sub(self.oldest_echo()) <= ECHO_TIMEOUT;
        if is_in_time && !self.is_up.swap(true, Ordering::SeqCst) {
            info!("linked to the other servers");
            self.refresh_health();
        }
    }

    pub fn mark_alive(&self, peer: &str) {
        let mut peers = self.peers.lock();
        match peers.last_heard.get_mut(peer) {
            Some(heard) => *heard = Instant::now(),
            None => {
                peers.last_heard.insert(peer.to_owned(), Instant::now());
            }
        }
    }

    pub fn set_expected_peers(&self, alive: Vec<String>) {
        let mut peers = self.peers.lock();
        peers.last_heard.retain(|peer, _| alive.contains(peer));
        peers.alive = alive;
        drop(peers);
        self.refresh_health();
    }

    /// Records the report of another process that it dropped notifications.
    pub fn record_gap(&self) {
        self.health.send_modify(|health| health.gaps += 1);
    }

    pub fn refresh_health(&self) {
        let is_complete = self.is_up() && {
            let peers = self.peers.lock();
            let is_heard =
                |peer| peers.last_heard.get(peer).is_some_and(|heard: &Instant| heard.elapsed() < ECHO_TIMEOUT);
            peers.alive.iter().all(is_heard)
        };
        self.health.send_if_modified(|health| std::mem::replace(&mut health.is_complete, is_complete) != is_complete);
    }
}
