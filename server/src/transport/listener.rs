//! Options of the socket that Rocket listens on: a longer backlog, and deadlines of the kernel.
//!
//! Rocket listens with a backlog of 128. When thousands of clients connect at once, the kernel silently drops those
//! that do not fit, and each of them tries again only after a second or more. listen(2) on a socket that listens
//! already raises its backlog, up to `net.core.somaxconn`.
//!
//! Accepted sockets inherit the options of the listener: a connection is handed over once it has sent something, and
//! the kernel closes one whose peer takes nothing or is gone.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Connections that may wait to be accepted.
#[cfg(target_os = "linux")]
const BACKLOG: i32 = 4096;

/// Seconds for which the kernel does not hand over a connection that has sent nothing.
#[cfg(target_os = "linux")]
const DEFER_ACCEPT: u32 = 10;

/// Time after which the kernel closes a connection whose peer acknowledges none of the bytes sent to it.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Silence after which the kernel probes whether a peer is still there, and the interval between its probes.
#[cfg(target_os = "linux")]
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));

/// Raises the backlog of this process's socket that listens on `address`, and gives its connections deadlines. Returns
/// whether there is such a socket. If live connections have a longer `write_deadline`, the kernel waits as long for
/// their peers.
///
/// # Errors
/// Returns an error of the system. The socket still works without these options.
#[cfg(target_os = "linux")]
pub fn set_listener_options(address: SocketAddr, write_deadline: Duration) -> io::Result<bool> {
    use nix::sys::socket::setsockopt;
    use rustix::net::{listen, sockopt};

    let Some(listener) = listener(address)? else { return Ok(false) };
    listen(&listener, BACKLOG)?;
    sockopt::set_tcp_user_timeout(
        &listener,
        u32::try_from(USER_TIMEOUT.max(write_deadline).as_millis()).unwrap_or(u32::MAX),
    )?;
    sockopt::set_socket_keepalive(&listener, true)?;
    sockopt::set_tcp_keepidle(&listener, KEEP_ALIVE.0)?;
    sockopt::set_tcp_keepintvl(&listener, KEEP_ALIVE.1)?;
    setsockopt(&listener, DeferAccept, &DEFER_ACCEPT)?;
    Ok(true)
}

/// TCP_DEFER_ACCEPT, which no safe interface offers.
#[cfg(target_os = "linux")]
#[derive(Debug, Clone, Copy)]
struct DeferAccept;

#[cfg(target_os = "linux")]
mod option {
    use nix::libc;

    nix::setsockopt_impl!(
        DeferAccept,
        libc::IPPROTO_TCP,
        libc::TCP_DEFER_ACCEPT,
        u32,
        nix::sys::socket::sockopt::SetStruct<'_, u32>
    );
    use super::DeferAccept;
}

/// Makes another handle to this process's socket that listens on `address`, because Rocket does not share its own.
///
/// No other descriptor of the process is copied: closing a copy of the database's descriptor would drop SQLite's locks.
#[cfg(target_os = "linux")]
fn listener(address: SocketAddr) -> io::Result<Option<std::os::fd::OwnedFd>> {
    use rustix::net::{getsockname, sockopt};

    for inode in crate::transport::descriptors::listening_inodes(address)? {
        let Some(number) = crate::transport::descriptors::descriptor_of(inode)? else { continue };
        let Some(copy) = crate::transport::descriptors::copy_socket(number)? else { continue };
        let name = getsockname(&copy).ok().and_then(|name| SocketAddr::try_from(name).ok());
        if sockopt::socket_acceptconn(&copy) == Ok(true) && name == Some(address) {
            return Ok(Some(copy));
        }
    }
    Ok(None)
}

/// Does nothing on systems other than Linux.
///
/// # Errors
/// Never returns an error.
#[cfg(not(target_os = "linux"))]
pub fn set_listener_options(_: SocketAddr, _: Duration) -> io::Result<bool> {
    Ok(false)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use rustix::net::sockopt;

    use super::*;

    #[test]
    fn more_connections_than_before_may_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // As little room as the kernel gives.
        rustix::net::listen(&listener, 1).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200));
        let mut waiting = Vec::new();
        while let Ok(stream) = connect() {
            waiting.push(stream);
            assert!(waiting.len() < 10, "the kernel accepts ten with a backlog of one");
        }
        assert!(set_listener_options(address, Duration::ZERO).unwrap());
        for _ in 0..100 {
            waiting.push(TcpStream::connect(address).unwrap());
        }
        let unused = SocketAddr::from(([127, 0, 0, 1], 1));
        assert!(!set_listener_options(unused, Duration::ZERO).unwrap());
    }

    #[test]
    fn an_accepted_connection_has_sent_something_and_inherits_the_deadlines() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            assert!(set_listener_options(address, Duration::ZERO).unwrap());
            let _silent = TcpStream::connect(address).unwrap();
            let mut speaks = TcpStream::connect(address).unwrap();
            speaks.write_all(b"GET").unwrap();
            let (accepted, peer) = listener.accept().unwrap();
            assert_eq!(peer, speaks.local_addr().unwrap(), "the silent one was handed over first");
            assert_eq!(sockopt::tcp_user_timeout(&accepted).unwrap(), 30_000);
            assert!(sockopt::socket_keepalive(&accepted).unwrap());
        }
    }
}
