//! Whether the link works: echoes of this process, and signs of the others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tracing::info;

/// The link is down if no echo has come back for this long, and a peer is lost if nothing has been heard of it for this
/// long.
pub(super) const ECHO_TIMEOUT: Duration = Duration::from_millis(600);

/// How far the notifications of other processes can be relied on. Each change is a reason to compare heads at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkHealth {
    /// Whether the link is up and every process that is alive is heard.
    pub is_complete: bool,
    /// How often another process reported that it had dropped notifications.
    pub gaps: u64,
}

/// What is known of the link.
pub(super) struct Monitor {
    is_up: AtomicBool,
    health: watch::Sender<LinkHealth>,
    peers: Mutex<Peers>,
    began: Instant,
    /// When each channel last brought an echo back, in microseconds since `began`; 0 if it has not yet.
    echoes: RwLock<Vec<AtomicU64>>,
}

#[derive(Debug, Default)]
struct Peers {
    /// The other processes that are alive, by the database.
    alive: Vec<String>,
    last_heard: HashMap<String, Instant>,
}

impl Monitor {
    pub fn new() -> Self {
        Self {
            is_up: AtomicBool::new(false),
            health: watch::Sender::new(LinkHealth::default()),
            peers: Mutex::default(),
            began: Instant::now(),
            echoes: RwLock::default(),
        }
    }

    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::SeqCst)
    }

    pub fn subscribe(&self) -> watch::Receiver<LinkHealth> {
        self.health.subscribe()
    }

    /// A connection with so many channels is there, of which none has brought an echo yet.
    pub fn connected(&self, channels: usize) {
        *self.echoes.write() = (0..channels).map(|_| AtomicU64::new(0)).collect();
    }

    pub fn disconnected(&self) {
        self.take_down();
        self.refresh_health();
        self.echoes.write().clear();
    }

    /// Declares the link down; returns whether it was up.
    pub fn take_down(&self) -> bool {
        self.is_up.swap(false, Ordering::SeqCst)
    }

    /// Time since the process began, which [`oldest_echo`](Self::oldest_echo) counts from too.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// When the slowest channel last brought an echo back.
    pub fn oldest_echo(&self) -> Duration {
        let oldest = self.echoes.read().iter().map(|echo| echo.load(Ordering::Relaxed)).min();
        Duration::from_micros(oldest.unwrap_or(0))
    }

    /// Records an echo. The link is up once every channel has brought one in time.
    pub fn record_echo(&self, channel: usize) {
        let now = u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(echo) = self.echoes.read().get(channel) {
            echo.store(now, Ordering::Relaxed);
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

    /// Another process reported that it had dropped notifications.
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
