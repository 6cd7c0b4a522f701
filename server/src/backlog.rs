//! Room for connections that wait to be accepted.
//!
//! Rocket listens with room for 128. When thousands of clients come back at once, what does not fit is dropped by the kernel without
//! a word, and each of those clients tries again only after a second or more. A socket that listens already may be told to listen
//! with more room (listen(2)); the kernel caps it at `net.core.somaxconn`.

use std::io;
use std::net::SocketAddr;

/// Connections that may wait.
const ROOM: i32 = 4096;

/// Gives this process's socket that listens on `address` more room. Says whether it found one.
///
/// # Errors
/// The system's. Nothing is lost by them but the room.
#[cfg(target_os = "linux")]
pub fn lengthen(address: SocketAddr) -> io::Result<bool> {
    use rustix::net::{getsockname, listen, sockopt};
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    // Rocket keeps its listener to itself; asked for by number, the kernel gives another handle to it.
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(fd) = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()) else { continue };
        if sockopt::socket_acceptconn(&fd) == Ok(true)
            && getsockname(&fd).ok().and_then(|name| SocketAddr::try_from(name).ok()) == Some(address)
        {
            listen(&fd, ROOM)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Gives this process's socket that listens on `address` more room. Says whether it found one.
///
/// # Errors
/// None: elsewhere than on Linux nothing is done.
#[cfg(not(target_os = "linux"))]
pub fn lengthen(_: SocketAddr) -> io::Result<bool> {
    Ok(false)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn more_than_rockets_room_may_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // As little room as the kernel gives.
        rustix::net::listen(&listener, 1).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || TcpStream::connect_timeout(&address, std::time::Duration::from_millis(200));
        let mut waiting = Vec::new();
        while let Ok(stream) = connect() {
            waiting.push(stream);
            assert!(waiting.len() < 10, "the kernel has room for ten where it was told one");
        }
        assert!(lengthen(address).unwrap());
        for _ in 0..100 {
            waiting.push(TcpStream::connect(address).unwrap());
        }
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        assert!(!lengthen(nobody).unwrap());
    }
}
