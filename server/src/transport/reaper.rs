//! Closes HTTP connections that hold a descriptor without using it.
//!
//! Rocket has no deadline for the head of a request and none for idle connections. So a thread scans the accepted
//! sockets of this process, as the kernel lists them (`SockDiag`), and shuts down
//! - a connection that has not sent the head of a request and the first bytes of its body in time,
//! - a connection that has been idle for too long,
//! - while descriptors run short, the connections that have been idle longest. If these are not enough, it evicts the
//!   slowest webhooks whose bodies are still arriving, because no signature has proved their senders yet.
//!
//! It leaves other requests in progress and live connections alone, because they have deadlines of their own.

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
/// The time between two scans is this multiple of a scan's duration, within the bounds below. So scanning takes at most
/// 1/200 of a thread, unless a scan takes longer than 25 ms.
const SCAN_INTERVAL_FACTOR: u32 = 200;
const MIN_SCAN_INTERVAL: Duration = Duration::from_secs(2);
const MAX_SCAN_INTERVAL: Duration = Duration::from_secs(5);
/// Shortest interval between two warnings that descriptors run short.
const WARN_INTERVAL: Duration = Duration::from_secs(5);
/// Idle time from which a connection may be closed because descriptors run short. A client between two requests is
/// usually idle for less.
const MIN_IDLE_TO_SHED: Duration = Duration::from_millis(50);
/// Descriptors that this thread keeps open and closes before a scan, so that the scan can open its own while the
/// process has no other left.
const SPARE_DESCRIPTORS: usize = 4;

/// The handle to the thread, which ends soon after this is dropped.
#[derive(Debug)]
pub struct Reaper {
    stop: Arc<AtomicBool>,
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A connection that has had no request in progress and sent no response since an earlier scan.
#[derive(Debug, Clone, Copy)]
struct TrackedSocket {
    peer: SocketAddr,
    first_seen: Instant,
    /// Bytes sent and received by then.
    sent: u64,
    received: u64,
    /// When a scan first found that the server waits for the rest of a request head. On a new connection it waits from
    /// the beginning, after a response from the first bytes that follow.
    awaits_head_since: Option<Instant>,
}

impl TrackedSocket {
    /// Combines what a scan found with what the previous scan found under the same inode.
    fn update(previous: Option<&Self>, socket: &SocketInfo, now: Instant) -> Self {
        // The inode may have been reused for another connection, and a sent response completes the request before it.
        let same = previous.filter(|previous| previous.peer == socket.peer && previous.sent == socket.sent);
        let mut tracked = same.copied().unwrap_or(Self {
            peer: socket.peer,
            first_seen: now,
            sent: socket.sent,
            received: socket.received,
            awaits_head_since: None,
        });
        if tracked.awaits_head_since.is_none() && (socket.sent == 0 || socket.received > tracked.received) {
            tracked.awaits_head_since = Some(now);
        }
        tracked
    }

    /// Whether the time for a request head or the time between two requests is over.
    fn is_expired(&self, socket: &SocketInfo, timeouts: IdleTimeouts, now: Instant) -> bool {
        if socket.unacknowledged > 0 || socket.unread > 0 {
            // A response is still being sent; the kernel closes the connection if the peer does not read it. Or the
            // server has not read all that the peer sent, so the peer is not late.
            return false;
        }
        let is_older = |since, limit| now.saturating_duration_since(since) >= limit;
        self.awaits_head_since.is_some_and(|since| is_older(since, timeouts.head))
            || (is_older(self.first_seen, timeouts.idle) && socket.idle >= timeouts.idle)
    }
}

struct ReaperThread {
    diag: SockDiag,
    own_pidfd: OwnedFd,
    spare_descriptors: Vec<OwnedFd>,
    connections: ConnectionRegistry,
    bodies: BodyBudget,
    idle_timeouts: IdleTimeouts,
    /// The connections without a request in progress, by inode. A connection that could not be closed stays here.
    tracked: HashMap<u64, TrackedSocket>,
    warned_at: Option<Instant>,
    /// Connections closed because descriptors ran short, since the last warning.
    closed: u64,
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
    let mut reaper = ReaperThread {
        diag: SockDiag::new(address)?,
        own_pidfd: pidfd_open(getpid(), PidfdFlags::empty())?,
        spare_descriptors: Vec::new(),
        connections,
        bodies,
        idle_timeouts,
        tracked: HashMap::new(),
        warned_at: None,
        closed: 0,
    };
    // If the kernel does not support `sock_diag`, this fails, and the caller logs it.
    reaper.diag.sockets()?;
    let stop = Arc::new(AtomicBool::new(false));
    let handle = Reaper { stop: Arc::clone(&stop) };
    thread::Builder::new().name("reaper".into()).spawn(move || reaper.run(&stop))?;
    Ok(handle)
}

impl ReaperThread {
    fn run(&mut self, stop: &AtomicBool) {
        let mut next_scan = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(POLL_INTERVAL);
            let to_free = descriptors_to_free();
            let began = Instant::now();
            if to_free == 0 && began < next_scan {
                continue;
            }
            self.spare_descriptors.clear();
            if let Err(error) = self.scan(began, to_free) {
                debug!(%error, "the sockets cannot be scanned");
            }
            self.open_spare_descriptors();
            let interval = began.elapsed() * SCAN_INTERVAL_FACTOR;
            next_scan = Instant::now() + interval.clamp(MIN_SCAN_INTERVAL, MAX_SCAN_INTERVAL);
        }
    }

    fn open_spare_descriptors(&mut self) {
        while self.spare_descriptors.len() < SPARE_DESCRIPTORS
            && let Ok(spare) = self.own_pidfd.try_clone()
        {
            self.spare_descriptors.push(spare);
        }
    }

    /// Scans all sockets and closes the expired ones. If these are fewer than `to_free`, it closes idle connections and
    /// evicts bodies for the rest.
    fn scan(&mut self, now: Instant, to_free: u64) -> std::io::Result<()> {
        let sockets = self.diag.sockets()?;
        let mut to_close = Vec::new();
        let mut sheddable = Vec::new();
        let mut tracked_sockets = HashMap::with_capacity(sockets.len());
        for socket in sockets {
            if self.connections.is_busy(socket.peer) {
                continue;
            }
            let tracked = TrackedSocket::update(self.tracked.get(&socket.inode), &socket, now);
            if tracked.is_expired(&socket, self.idle_timeouts, now) {
                to_close.push(socket);
            } else if to_free > 0 && socket.idle >= MIN_IDLE_TO_SHED && socket.unread == 0 {
                sheddable.push(socket);
            }
            tracked_sockets.insert(socket.inode, tracked);
        }
        self.tracked = tracked_sockets;
        let still_to_free = usize::try_from(to_free).unwrap_or(usize::MAX).saturating_sub(to_close.len());
        sheddable.sort_by_key(|socket| std::cmp::Reverse(socket.idle));
        sheddable.truncate(still_to_free);
        let evicted = self.bodies.evict(still_to_free - sheddable.len());
        to_close.extend(sheddable);
        let closed = self.close(&to_close);
        debug!(closed, evicted, idle = self.tracked.len(), "scanned the HTTP connections");
        if to_free > 0 {
            self.closed += (closed + evicted) as u64;
            self.warn_of_shortage(now);
        }
        Ok(())
    }

    /// Warns that descriptors run short, unless it did within the last `WARN_INTERVAL`.
    fn warn_of_shortage(&mut self, now: Instant) {
        if self.warned_at.is_some_and(|warned_at| now.saturating_duration_since(warned_at) < WARN_INTERVAL) {
            return;
        }
        let (open, limit) = (descriptors::open_count(), getrlimit(Resource::Nofile).current);
        let (idle, live) = (self.tracked.len(), self.connections.live());
        warn!(
            open,
            limit,
            live,
            idle,
            closed = self.closed,
            "descriptors run short; idle and slow connections are closed"
        );
        (self.warned_at, self.closed) = (Some(now), 0);
    }

    /// Shuts sockets down, so that their tasks end and close them. Returns how many it shut down. The others stay
    /// tracked, and the next scan tries again.
    fn close(&mut self, sockets: &[SocketInfo]) -> usize {
        if sockets.is_empty() {
            return 0;
        }
        let inodes: HashSet<u64> = sockets.iter().map(|socket| socket.inode).collect();
        let log_error = |error: &std::io::Error| debug!(%error, "cannot close an HTTP connection");
        let numbers = descriptors::descriptors_of(&inodes).inspect_err(log_error).unwrap_or_default();
        let mut closed = 0;
        for socket in sockets {
            let Some(number) = numbers.get(&socket.inode) else { continue };
            let copy = descriptors::copy_socket_of(&self.own_pidfd, *number).inspect_err(log_error);
            let Ok(Some(copy)) = copy else { continue };
            let peer = getpeername(&copy).ok().flatten().and_then(|peer| SocketAddr::try_from(peer).ok());
            // Since the scan, the number may have been reused for another connection, or a request may have arrived.
            if peer == Some(socket.peer)
                && !self.connections.is_busy(socket.peer)
                && shutdown(&copy, Shutdown::Both).is_ok()
            {
                self.tracked.remove(&socket.inode);
                closed += 1;
            }
        }
        closed
    }
}

/// Returns how many descriptors to free. Normal fluctuation frees none: the first is freed when half of the reserve is
/// in use, and the last when three quarters are free again.
fn descriptors_to_free() -> u64 {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return 0 };
    let (free, reserve) = (limit.saturating_sub(descriptors::open_count()), descriptor_reserve(limit));
    if free < reserve / 2 { reserve * 3 / 4 - free } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: IdleTimeouts = IdleTimeouts { head: Duration::from_secs(10), idle: Duration::from_secs(75) };

    fn secs(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn socket(sent: u64, received: u64, idle: u64) -> SocketInfo {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        SocketInfo { inode: 1, peer, unacknowledged: 0, unread: 0, idle: secs(idle), sent, received }
    }

    /// Whether the last of these scans, each at a second, finds that the connection is expired.
    fn is_expired(scans: &[(u64, SocketInfo)]) -> bool {
        let start = Instant::now();
        let mut tracked = None;
        let mut is_expired = false;
        for (second, socket) in scans {
            let next = TrackedSocket::update(tracked.as_ref(), socket, start + secs(*second));
            is_expired = next.is_expired(socket, TIMEOUTS, start + secs(*second));
            tracked = Some(next);
        }
        is_expired
    }

    #[test]
    fn a_request_has_its_time_from_its_own_beginning() {
        let new = socket(0, 3, 0);
        assert!(!is_expired(&[(0, new), (9, new)]));
        assert!(is_expired(&[(0, new), (10, new)]));
        let (answered, begun) = (socket(100, 50, 30), socket(100, 53, 0));
        assert!(!is_expired(&[(0, answered), (30, begun)]), "an idle connection sends its next request");
        assert!(!is_expired(&[(0, answered), (30, begun), (39, begun)]));
        assert!(is_expired(&[(0, answered), (30, begun), (40, begun)]));
        assert!(!is_expired(&[(0, answered), (30, begun), (40, socket(200, 60, 0))]), "the request was answered");
    }

    #[test]
    fn an_idle_connection_has_its_time_between_two_requests() {
        assert!(!is_expired(&[(0, socket(100, 50, 0)), (74, socket(100, 50, 74))]));
        assert!(is_expired(&[(0, socket(100, 50, 0)), (75, socket(100, 50, 75))]));
    }

    #[test]
    fn a_peer_is_not_blamed_for_what_the_server_has_not_sent_or_read() {
        for (unacknowledged, unread) in [(1, 0), (0, 1)] {
            let busy = SocketInfo { unacknowledged, unread, ..socket(0, 3, 90) };
            assert!(!is_expired(&[(0, busy), (90, busy)]));
        }
    }
}
