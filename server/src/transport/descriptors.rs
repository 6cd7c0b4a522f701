//! The descriptors of this process: which of them are sockets, how many are open, and how many may be.
//!
//! close(2) of any descriptor of a file drops all POSIX locks that the process holds on the file, including SQLite's.
//! So only descriptors that were just listed as sockets are copied. A copy that is no socket is leaked and never
//! closed.

use std::io;

#[cfg(target_os = "linux")]
pub use linux::{copy_socket, copy_socket_of, descriptor_of, descriptors_of, listening_inodes, open_count};

/// Raises the soft limit of open descriptors to the hard limit.
///
/// # Errors
/// Returns an error if the system refuses; then the limit is unchanged.
pub fn raise_limit() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// Returns how many descriptors may be open at a time, or `None` if there is no limit.
#[must_use]
pub fn limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::{HashMap, HashSet};
    use std::fs;
    use std::io;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

    use rustix::net::sockopt;
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    /// Returns how many descriptors this process has open. Before Linux 6.2 the size of the folder is 0; then this
    /// returns the lowest free number, which is a lower bound.
    #[must_use]
    pub fn open_count() -> u64 {
        match fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len()) {
            // If no descriptor is free for a copy, the limit is reached.
            0 => rustix::io::dup(rustix::stdio::stderr()).map_or_else(
                |_| super::limit().unwrap_or_default(),
                |copy| u64::try_from(copy.as_raw_fd()).unwrap_or_default(),
            ),
            count => count,
        }
    }

    /// Returns the inodes of all sockets of this machine that listen on `address`.
    ///
    /// # Errors
    /// Returns an error if `/proc/net` cannot be read.
    pub fn listening_inodes(address: SocketAddr) -> io::Result<Vec<u64>> {
        let table = fs::read_to_string(if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" })?;
        let inode = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            let is_listening = *state == "0A";
            (is_listening && parse_proc_address(local)? == address).then(|| inode.parse().ok())?
        };
        Ok(table.lines().skip(1).filter_map(inode).collect())
    }

    /// Parses an address of `/proc/net/tcp`: 32-bit words in the byte order of the machine, in hexadecimal, and the
    /// port.
    fn parse_proc_address(text: &str) -> Option<SocketAddr> {
        let (address, port) = text.split_once(':')?;
        let mut bytes = Vec::new();
        for at in (0..address.len()).step_by(8) {
            bytes.extend(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
        }
        let ip = match <[u8; 4]>::try_from(&bytes[..]) {
            Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
            Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?)),
        };
        Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
    }

    /// Returns the number of a descriptor of this process that refers to the socket `inode`.
    ///
    /// # Errors
    /// Returns an error if `/proc/self/fd` cannot be read.
    pub fn descriptor_of(inode: u64) -> io::Result<Option<RawFd>> {
        Ok(descriptors_of(&HashSet::from([inode]))?.remove(&inode))
    }

    /// Returns the numbers of the descriptors of this process that refer to these sockets, by inode. Takes time for
    /// each open descriptor.
    ///
    /// # Errors
    /// Returns an error if `/proc/self/fd` cannot be read.
    pub fn descriptors_of(inodes: &HashSet<u64>) -> io::Result<HashMap<u64, RawFd>> {
        let mut found = HashMap::new();
        for entry in fs::read_dir("/proc/self/fd")? {
            // A descriptor may be closed in between.
            let Ok(entry) = entry else { continue };
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let (Some(inode), Some(number)) = (inode.filter(|inode| inodes.contains(inode)), number) {
                found.insert(inode, number);
            }
        }
        Ok(found)
    }

    /// Duplicates the descriptor `number` of this process. Returns `None` if it is no longer a socket.
    ///
    /// # Errors
    /// Returns an error of pidfd_open(2) or pidfd_getfd(2), such as that no descriptor is free.
    pub fn copy_socket(number: RawFd) -> io::Result<Option<OwnedFd>> {
        copy_socket_of(&pidfd_open(getpid(), PidfdFlags::empty())?, number)
    }

    /// Does the same as [`copy_socket`], with a pidfd of this process that is open already.
    ///
    /// # Errors
    /// Returns an error of pidfd_getfd(2), such as that no descriptor is free.
    pub fn copy_socket_of(own_pidfd: &OwnedFd, number: RawFd) -> io::Result<Option<OwnedFd>> {
        let copy = match pidfd_getfd(own_pidfd, number, PidfdGetfdFlags::empty()) {
            Ok(copy) => copy,
            Err(rustix::io::Errno::BADF) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if sockopt::socket_type(&copy).is_err() {
            // The number was reused in between. If it belongs to the database now, closing the copy would drop its
            // locks.
            let _ = copy.into_raw_fd();
            return Ok(None);
        }
        Ok(Some(copy))
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::net::TcpListener;

        #[test]
        fn a_listener_is_found_and_a_file_is_not_copied() {
            for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
                let listener = TcpListener::bind(address).unwrap();
                let inodes = listening_inodes(listener.local_addr().unwrap()).unwrap();
                let found = inodes.iter().find_map(|inode| descriptor_of(*inode).unwrap());
                assert_eq!(found, Some(listener.as_raw_fd()), "{address}");
                assert!(copy_socket(listener.as_raw_fd()).unwrap().is_some());
            }
            let file = tempfile::tempfile().unwrap();
            assert!(copy_socket(file.as_raw_fd()).unwrap().is_none());
        }

        #[test]
        fn open_descriptors_are_counted() {
            let before = open_count();
            let files: Vec<_> = (0..100).map(|_| tempfile::tempfile().unwrap()).collect();
            assert!(
                open_count() >= before + 50,
                "{before} descriptors before, {} after {} more",
                open_count(),
                files.len()
            );
        }
    }
}
