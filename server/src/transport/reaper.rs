//! Closes HTTP connections that hold a descriptor without using it.
//!
//! Rocket has no deadline for the head of a request and none for idle connections. So a thread scans the accepted
//! sockets of this process, as the kernel lists them (`SockDiag`), and shuts down
//! - a connection that has not brought the head of a request and the first bytes of its body in time,
//! - a connection that has been idle for too long,
//! - while descriptors run short, the connections that have been idle longest. If these are not enough, it evicts the
//!   slowest webhooks whose bodies are still arriving and whose signatures are not verified yet.
//!
//! Other requests in progress and live connections have deadlines of their own and are left alone.

mod sock_diag;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, getpeername, shutdown};
use rustix::process::{PidfdFlags, Resource, getpid, getrlimit, pidfd_open};
use tracing::{debug, warn};

use crate::policy::IdleTimeouts;
use crate::transport::bodies::BodyBudget;
use crate::transport::connections::{ConnectionRegistry, descriptor_reserve};
use crate::transport::descriptors;
use sock_diag::{SockDiag, SocketInfo};

/// Interval at which the number of free descriptors is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Shortest and longest interval between two scans of all sockets; between these bounds it is `SCAN_SHARE` times the
/// duration of a scan.
const SCAN_INTERVAL: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));
const SCAN_SHARE: u32 = 200;
/// Shortest interval between two warnings that descriptors run short.
const WARN_INTERVAL: Duration = Duration::from_secs(5);
/// Idle time below which a connection is not closed for its descriptor.
const MIN_IDLE: Duration = Duration::from_millis(50);
/// Descriptors that this thread holds for its own work.
const SPARE_DESCRIPTORS: usize = 4;

/// The running thread. It ends when its handle is dropped.
#[derive(Debug)]
pub struct Reaper(Arc<AtomicBool>);

impl Drop for Reaper {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What earlier scans found out about a connection.
#[derive(Debug, Clone, Copy)]
struct TrackedSocket {
    peer: SocketAddr,
    /// Since when no request was in progress and no response was sent.
    since: Instant,
    /// Bytes sent and received by then.
    sent: u64,
    received: u64,
}

struct ReaperThread {
    diag: SockDiag,
    this: OwnedFd,
    spare: Vec<OwnedFd>,
    connections: ConnectionRegistry,
    bodies: BodyBudget,
    idle_timeouts: IdleTimeouts,
    /// The connections without a request in progress, by inode.
    known: HashMap<u64, TrackedSocket>,
    warned_at: Option<Instant>,
    shed: u64,
}

/// Starts the thread for a server that listens on `address`.
///
/// # Errors
/// Returns an error if the kernel does not list sockets, or no thread can be started.
pub fn start(
    address: SocketAddr,
    connections: ConnectionRegistry,
    bodies: BodyBudget,
    idle_timeouts: IdleTimeouts,
) -> std::io::Result<Reaper> {
    let mut work = ReaperThread {
        diag: SockDiag::new(address)?,
        this: pidfd_open(getpid(), PidfdFlags::empty())?,
        spare: Vec::new(),
        connections,
        bodies,
        idle_timeouts,
        known: HashMap::new(),
        warned_at: None,
        shed: 0,
    };
    work.diag.sockets()?;
    let ended = Arc::new(AtomicBool::new(false));
    let is_ended = Arc::clone(&ended);
    thread::Builder::new().name("reaper".into()).spawn(move || work.run(&is_ended))?;
    Ok(Reaper(ended))
}

impl ReaperThread {
    fn run(&mut self, is_ended: &AtomicBool) {
        let mut next = Instant::now();
        while !is_ended.load(Ordering::Relaxed) {
            thread::sleep(POLL_INTERVAL);
            let wanted = descriptors_wanted();
            let began = Instant::now();
            if wanted == 0 && began < next {
                continue;
            }
            self.spare.clear();
            if let Err(error) = self.scan(began, wanted) {
                debug!(%error, "the sockets cannot be scanned");
            }
            self.hold_spare();
            next = Instant::now() + (began.elapsed() * SCAN_SHARE).clamp(SCAN_INTERVAL.0, SCAN_INTERVAL.1);
        }
    }

    fn hold_spare(&mut self) {
        while self.spare.len() < SPARE_DESCRIPTORS
            && let Ok(spare) = self.this.try_clone()
        {
            self.spare.push(spare);
        }
    }

    /// Scans all sockets, closes those whose time is over, and up to `wanted` more.
    fn scan(&mut self, now: Instant, wanted: u64) -> std::io::Result<()> {
        let seen = self.diag.sockets()?;
        let mut late = Vec::new();
        let mut candidates = Vec::new();
        let mut known = HashMap::with_capacity(seen.len());
        for socket in seen {
            if self.connections.is_busy(socket.peer) {
                continue;
            }
            let before = self.known.get(&socket.inode).filter(|before| {
                // A response that was sent belongs to a complete request. An inode may have been reused for another
                // connection.
                before.peer == socket.peer && before.sent == socket.sent
            });
            let entry = before.copied().unwrap_or(TrackedSocket {
                peer: socket.peer,
                since: now,
                sent: socket.sent,
                received: if socket.sent == 0 { 0 } else { socket.received },
            });
            if self.is_over(&entry, &socket, now) {
                late.push(socket);
                continue;
            }
            known.insert(socket.inode, entry);
            // While bytes wait to be read, the server is behind and not the peer.
            if wanted > 0 && socket.idle >= MIN_IDLE && socket.unread == 0 {
                candidates.push(socket);
            }
        }
        self.known = known;
        let mut closing = late;
        let missing = usize::try_from(wanted).unwrap_or(usize::MAX).saturating_sub(closing.len());
        candidates.sort_by_key(|socket| std::cmp::Reverse(socket.idle));
        candidates.truncate(missing);
        let shed = candidates.len();
        let evicted = self.bodies.evict(missing - shed);
        closing.extend(candidates);
        let closed = self.close(&closing)?;
        debug!(closed, shed, evicted, connections = self.known.len(), "scanned the HTTP connections");
        if wanted > 0 {
            self.shed += (shed + evicted) as u64;
            self.warn_sometimes(now);
        }
        Ok(())
    }

    /// Whether the time of a connection without a request in progress is over.
    fn is_over(&self, known: &TrackedSocket, socket: &SocketInfo, now: Instant) -> bool {
        if socket.waiting > 0 {
            // A response is still being sent; the kernel closes a connection whose peer does not read it.
            return false;
        }
        let quiet = now.saturating_duration_since(known.since);
        // The connection is new, or has brought a part of a request.
        let is_begun = known.sent == 0 || socket.received > known.received;
        (is_begun && quiet >= self.idle_timeouts.head)
            || (quiet >= self.idle_timeouts.idle && socket.idle >= self.idle_timeouts.idle)
    }

    fn warn_sometimes(&mut self, now: Instant) {
        if self.warned_at.is_some_and(|warned_at| now.saturating_duration_since(warned_at) < WARN_INTERVAL) {
            return;
        }
        let (open, limit) = (descriptors::open_count(), getrlimit(Resource::Nofile).current);
        let (idle, live) = (self.known.len(), self.connections.live());
        warn!(
            open,
            ?limit,
            live,
            idle,
            closed = self.shed,
            "descriptors run short; idle and slow connections are closed"
        );
        (self.warned_at, self.shed) = (Some(now), 0);
    }

    /// Shuts sockets down, upon which their tasks end and close them. Returns how many.
    fn close(&mut self, sockets: &[SocketInfo]) -> std::io::Result<usize> {
        if sockets.is_empty() {
            return Ok(0);
        }
        let inodes: HashSet<u64> = sockets.iter().map(|socket| socket.inode).collect();
        let numbers = descriptors::descriptors_of(&inodes)?;
        let mut closed = 0;
        for socket in sockets {
            let Some(number) = numbers.get(&socket.inode) else { continue };
            let Some(copy) = descriptors::copy_socket_of(&self.this, *number)? else { continue };
            let peer = getpeername(&copy).ok().flatten().and_then(|peer| SocketAddr::try_from(peer).ok());
            // In between, the number may have been reused for another connection, or a request may have arrived.
            if peer == Some(socket.peer)
                && !self.connections.is_busy(socket.peer)
                && shutdown(&copy, Shutdown::Both).is_ok()
            {
                closed += 1;
            }
        }
        Ok(closed)
    }
}

/// Returns how many descriptors should be freed.
fn descriptors_wanted() -> u64 {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return 0 };
    let (free, reserve) = (limit.saturating_sub(descriptors::open_count()), descriptor_reserve(limit));
    // Freeing begins when half of the reserve is used, so that normal fluctuation does not start it, and ends at three
    // quarters.
    if free < reserve / 2 { reserve * 3 / 4 - free } else { 0 }
}
