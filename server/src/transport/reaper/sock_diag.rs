//! The kernel's list of the connections of a port: `sock_diag(7)` over netlink, with the TCP state of each.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

// Constants of the kernel's headers, under the kernel's names.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`: a request for all entries.
const REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The attribute that holds a `struct tcp_info`.
const INET_DIAG_INFO: u16 = 2;
const IPPROTO_TCP: u8 = 6;
/// A bit for each state that is listed: `TCP_ESTABLISHED`, and `TCP_CLOSE_WAIT`, in which only the peer has closed.
const TCP_STATES: u32 = 1 << 1 | 1 << 8;
/// Bytes of a `struct nlmsghdr`.
const HEADER_LEN: usize = 16;
/// Bytes of a `struct inet_diag_msg`.
const DIAG_MESSAGE_LEN: usize = 72;
/// Bytes of a request: a `struct nlmsghdr` and a `struct inet_diag_req_v2`.
const REQUEST_LEN: u32 = 72;
/// Bytes of the longest datagram of a reply.
const BUFFER_LEN: usize = 64 << 10;
/// Time for each datagram of a reply. The kernel normally replies at once.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// An accepted connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct SocketInfo {
    pub inode: u64,
    pub peer: SocketAddr,
    /// Bytes that the server has written and the peer has not acknowledged.
    pub unacknowledged: u32,
    /// Bytes that have arrived and that the server has not read.
    pub unread: u32,
    /// Time since data was last sent or received.
    pub idle: Duration,
    /// Bytes sent and received so far.
    pub sent: u64,
    pub received: u64,
}

/// Lists the connections of one listening socket.
pub(super) struct SockDiag {
    socket: OwnedFd,
    family: u8,
    port: u16,
    buffer: Vec<u8>,
    /// The sequence number of the last request. Its reply carries the same number.
    sequence: u32,
}

impl SockDiag {
    pub fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(SOCK_DIAG))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(REPLY_TIMEOUT))?;
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let family = u8::try_from(family.as_raw()).unwrap_or_default();
        Ok(Self { socket, family, port: address.port(), buffer: vec![0; BUFFER_LEN], sequence: 0 })
    }

    /// Returns all connections of the port that a process holds.
    pub fn sockets(&mut self) -> io::Result<Vec<SocketInfo>> {
        self.sequence = self.sequence.wrapping_add(1);
        sendto(&self.socket, &self.request(), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut found = Vec::new();
        loop {
            let (count, _) = recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
            let mut rest = &self.buffer[..count];
            while let Some(length) = u32_at(rest, 0).and_then(|length| usize::try_from(length).ok()) {
                let Some(message) = rest.get(..length).filter(|message| message.len() >= HEADER_LEN) else { break };
                let is_ours = u32_at(message, 8) == Some(self.sequence);
                match u16_at(message, 4) {
                    Some(NLMSG_DONE) if is_ours => return Ok(found),
                    Some(NLMSG_ERROR) if is_ours => {
                        let code = u32_at(message, HEADER_LEN).unwrap_or_default().cast_signed();
                        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                    }
                    Some(SOCK_DIAG_BY_FAMILY) if is_ours => found.extend(parse(&message[HEADER_LEN..])),
                    // A late part of an earlier reply, whose reading an error or the timeout ended.
                    _ => {}
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    fn request(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(REQUEST_LEN.to_ne_bytes());
        bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes.extend(REQUEST_DUMP.to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend([self.family, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0]);
        bytes.extend(TCP_STATES.to_ne_bytes());
        bytes.extend(self.port.to_be_bytes());
        // The other fields are zero, which matches any peer.
        bytes.resize(REQUEST_LEN as usize, 0);
        bytes
    }
}

/// Parses a `struct inet_diag_msg` and the attributes behind it; the numbers are offsets of their fields. Returns
/// `None` for a connection without an inode, which no process holds.
fn parse(message: &[u8]) -> Option<SocketInfo> {
    let family = *message.first()?;
    let port = u16::from_be_bytes(message.get(6..8)?.try_into().ok()?);
    let ip = match i32::from(family) {
        family if family == i32::from(AddressFamily::INET.as_raw()) => {
            IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(message.get(24..28)?).ok()?))
        }
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(message.get(24..40)?).ok()?)),
    };
    let inode = u64::from(u32_at(message, 68)?);
    let (unread, unacknowledged) = (u32_at(message, 56)?, u32_at(message, 60)?);
    let info = attribute(message.get(DIAG_MESSAGE_LEN..)?, INET_DIAG_INFO)?;
    let duration_at = |offset| u32_at(info, offset).map(|ms| Duration::from_millis(ms.into()));
    (inode != 0).then_some(SocketInfo {
        inode,
        peer: SocketAddr::new(ip, port),
        unacknowledged,
        unread,
        idle: duration_at(44)?.min(duration_at(52)?),
        sent: u64_at(info, 200)?,
        received: u64_at(info, 128)?,
    })
}

fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let attribute = attributes.get(..length).filter(|attribute| attribute.len() >= 4)?;
        if u16_at(attribute, 2)? == wanted {
            return Some(&attribute[4..]);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_are_listed_with_the_bytes_that_they_carried() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let mut diag = SockDiag::new(listener.local_addr().unwrap()).unwrap();
            assert!(diag.sockets().unwrap().is_empty());
            let target = if address.starts_with("[::]") {
                format!("127.0.0.1:{port}")
            } else {
                address.replace(":0", &format!(":{port}"))
            };
            let mut client = TcpStream::connect(target).unwrap();
            let (mut accepted, peer) = listener.accept().unwrap();
            client.write_all(b"hello").unwrap();
            assert_eq!(diag.sockets().unwrap()[0].unread, 5);
            accepted.read_exact(&mut [0; 5]).unwrap();
            accepted.write_all(b"bye").unwrap();
            let found = diag.sockets().unwrap();
            let [seen] = &found[..] else { panic!("{found:?}") };
            assert_eq!((seen.peer, seen.unread, seen.received, seen.sent), (peer, 0, 5, 3));
            assert!(seen.inode > 0 && seen.idle < Duration::from_secs(10));
        }
    }
}
