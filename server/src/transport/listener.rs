//! Options of the socket that Rocket listens on: a longer backlog, and deadlines of the kernel.
//!
//! Rocket listens with a backlog of 128. When thousands of clients connect at once, the kernel silently drops those
//! that do not fit, and each of them tries again only after a second or more. A second listen(2) on the same socket
//! raises its backlog, up to `net.core.somaxconn`.
//!
//! Accepted sockets inherit the options of the listener. The kernel hands a connection over once it has sent something,
//! and closes it if its peer acknowledges nothing or is gone.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Maximum number of connections that wait to be accepted.
#[cfg(target_os = "linux")]
const BACKLOG: i32 = 4096;

/// Time for which the kernel keeps a connection that has sent nothing to itself.
#[cfg(target_os = "linux")]
const DEFER_ACCEPT_SECS: u32 = 10;

/// Time after which the kernel closes a connection whose peer acknowledges none of the bytes sent to it.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Silence after which the kernel probes whether a peer is still there.
#[cfg(target_os = "linux")]
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
#[cfg(target_os = "linux")]
const KEEPALIVE_PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// Raises the backlog of this process's socket that listens on `address`, and sets the deadlines of the connections
/// that it accepts. Returns `false` if the process has no such socket. `write_deadline` is that of live connections;
/// the kernel waits at least as long for a peer.
///
/// # Errors
/// Returns an error if the system refuses an option. The socket still works without it.
#[cfg(target_os = "linux")]
pub fn set_listener_options(address: SocketAddr, write_deadline: Duration) -> io::Result<bool> {
    use nix::sys::socket::setsockopt;
    use rustix::net::{listen, sockopt};

    let Some(listener) = copy_listener(address)? else { return Ok(false) };
    listen(&listener, BACKLOG)?;
    sockopt::set_tcp_user_timeout(
        &listener,
        u32::try_from(TCP_USER_TIMEOUT.max(write_deadline).as_millis()).unwrap_or(u32::MAX),
    )?;
    sockopt::set_socket_keepalive(&listener, true)?;
    sockopt::set_tcp_keepidle(&listener, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&listener, KEEPALIVE_PROBE_INTERVAL)?;
    setsockopt(&listener, DeferAccept, &DEFER_ACCEPT_SECS)?;
    Ok(true)
}

/// The option `TCP_DEFER_ACCEPT`, for which no library has a safe function.
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

/// Duplicates the descriptor of this process's socket that listens on `address`, because Rocket does not expose its
/// own.
///
/// Copies no other kind of descriptor: closing a copy of the database's would drop SQLite's locks.
#[cfg(target_os = "linux")]
fn copy_listener(address: SocketAddr) -> io::Result<Option<std::os::fd::OwnedFd>> {
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
    fn the_backlog_of_a_listening_socket_is_raised() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // The shortest backlog that the kernel offers.
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
    fn a_connection_is_accepted_once_it_has_sent_something_and_inherits_the_deadlines() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            assert!(set_listener_options(address, Duration::ZERO).unwrap());
            let _silent = TcpStream::connect(address).unwrap();
            let mut sender = TcpStream::connect(address).unwrap();
            sender.write_all(b"GET").unwrap();
            let (accepted, peer) = listener.accept().unwrap();
            assert_eq!(peer, sender.local_addr().unwrap(), "a connection that sent nothing was accepted first");
            assert_eq!(sockopt::tcp_user_timeout(&accepted).unwrap(), 30_000);
            assert!(sockopt::socket_keepalive(&accepted).unwrap());
        }
    }
}
