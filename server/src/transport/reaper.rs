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

/// A connection that has had no request in progress and sent no response since an earlier scan.
#[derive(Debug, Clone, Copy)]
struct TrackedSocket {
    peer: SocketAddr,
    first_seen: Instant,
    /// Bytes sent and received by then.
    sent: u64,
    received: u64,
    /// When a scan first found that the connection owes the rest of a request: a new connection from the beginning, a
    /// kept one from the first bytes after its response.
    owes_request_since: Option<Instant>,
}

impl TrackedSocket {
    /// Joins what a scan found with what the scan before found in the same place.
    fn update(previous: Option<&Self>, socket: &SocketInfo, now: Instant) -> Self {
        // The inode may have been reused for another connection, and a sent response completes the request before it.
        let same = previous.filter(|previous| previous.peer == socket.peer && previous.sent == socket.sent);
        let mut tracked = same.copied().unwrap_or(Self {
            peer: socket.peer,
            first_seen: now,
            sent: socket.sent,
            received: socket.received,
            owes_request_since: None,
        });
        if tracked.owes_request_since.is_none() && (socket.sent == 0 || socket.received > tracked.received) {
            tracked.owes_request_since = Some(now);
        }
        tracked
    }

    /// Whether the connection has used up its time for a request, or its time between two requests.
    fn is_expired(&self, socket: &SocketInfo, timeouts: IdleTimeouts, now: Instant) -> bool {
        if socket.waiting > 0 || socket.unread > 0 {
            // The peer still receives a response, and the kernel closes the connection if it does not read it. Or the
            // server has not read what the peer sent, so the delay is not the peer's.
            return false;
        }
        let is_older = |since, limit| now.saturating_duration_since(since) >= limit;
        self.owes_request_since.is_some_and(|since| is_older(since, timeouts.head))
            || (is_older(self.first_seen, timeouts.idle) && socket.idle >= timeouts.idle)
    }
}

struct ReaperThread {
    diag: SockDiag,
    this: OwnedFd,
    spare: Vec<OwnedFd>,
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
    let mut work = ReaperThread {
        diag: SockDiag::new(address)?,
        this: pidfd_open(getpid(), PidfdFlags::empty())?,
        spare: Vec::new(),
        connections,
        bodies,
        idle_timeouts,
        tracked: HashMap::new(),
        warned_at: None,
        closed: 0,
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
        let mut to_close = Vec::new();
        let mut sheddable = Vec::new();
        let mut tracked_sockets = HashMap::with_capacity(seen.len());
        for socket in seen {
            if self.connections.is_busy(socket.peer) {
                continue;
            }
            let tracked = TrackedSocket::update(self.tracked.get(&socket.inode), &socket, now);
            if tracked.is_expired(&socket, self.idle_timeouts, now) {
                to_close.push(socket);
            } else if wanted > 0 && socket.idle >= MIN_IDLE && socket.unread == 0 {
                sheddable.push(socket);
            }
            tracked_sockets.insert(socket.inode, tracked);
        }
        self.tracked = tracked_sockets;
        let still_wanted = usize::try_from(wanted).unwrap_or(usize::MAX).saturating_sub(to_close.len());
        sheddable.sort_by_key(|socket| std::cmp::Reverse(socket.idle));
        sheddable.truncate(still_wanted);
        let evicted = self.bodies.evict(still_wanted - sheddable.len());
        to_close.extend(sheddable);
        let closed = self.close(&to_close);
        debug!(closed, evicted, idle = self.tracked.len(), "scanned the HTTP connections");
        if wanted > 0 {
            self.closed += (closed + evicted) as u64;
            self.warn_sometimes(now);
        }
        Ok(())
    }

    fn warn_sometimes(&mut self, now: Instant) {
        if self.warned_at.is_some_and(|warned_at| now.saturating_duration_since(warned_at) < WARN_INTERVAL) {
            return;
        }
        let (open, limit) = (descriptors::open_count(), getrlimit(Resource::Nofile).current);
        let (idle, live) = (self.tracked.len(), self.connections.live());
        warn!(
            open,
            ?limit,
            live,
            idle,
            closed = self.closed,
            "descriptors run short; idle and slow connections are closed"
        );
        (self.warned_at, self.closed) = (Some(now), 0);
    }

    /// Shuts sockets down, upon which their tasks end and close them. Returns how many. The others stay tracked, so
    /// the next scan tries them again.
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
            let copy = descriptors::copy_socket_of(&self.this, *number).inspect_err(log_error);
            let Ok(Some(copy)) = copy else { continue };
            let peer = getpeername(&copy).ok().flatten().and_then(|peer| SocketAddr::try_from(peer).ok());
            // In between, the number may have been reused for another connection, or a request may have arrived.
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

/// Returns how many descriptors should be freed.
fn descriptors_wanted() -> u64 {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return 0 };
    let (free, reserve) = (limit.saturating_sub(descriptors::open_count()), descriptor_reserve(limit));
    // Freeing begins when half of the reserve is used, so that normal fluctuation does not start it, and ends at three
    // quarters.
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
        SocketInfo { inode: 1, peer, waiting: 0, unread: 0, idle: secs(idle), sent, received }
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
        for (waiting, unread) in [(1, 0), (0, 1)] {
            let busy = SocketInfo { waiting, unread, ..socket(0, 3, 90) };
            assert!(!is_expired(&[(0, busy), (90, busy)]));
        }
    }
}
