//! The physical limit: one thread that does nothing but write the published bytes to its subscribers' sockets.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// Limit of the published bytes taken at once: as many as Callscope joins into one write.
const CHUNK: usize = 32 * 1024;
/// Length of a publication's header: the topic and the length of what follows.
pub const HEADER: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Writes {
    /// Join everything published in the meantime into one write
    Batched,
    /// Write each message by itself
    Single,
}

/// Puts a publication's header before its frame.
pub fn publication(topic: u32, frame: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&topic.to_le_bytes());
    out.extend_from_slice(&u32::try_from(frame.len()).expect("the frame is short").to_le_bytes());
    out.extend_from_slice(frame);
}

struct Peer {
    stream: TcpStream,
    /// Bytes that the socket has not taken yet.
    left: Vec<u8>,
}

/// Serves until the process is killed.
pub fn run(port: u16, writes: Writes) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(0), EventFlags::IN)?;
    let mut peers: Vec<Peer> = Vec::new();
    let mut topics: HashMap<u32, Vec<usize>> = HashMap::new();
    let mut events = Vec::with_capacity(256);
    let mut inbox = Vec::with_capacity(2 * CHUNK);
    loop {
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let data = event.data.u64();
            if data == 0 {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    epoll::add(&poll, &stream, EventData::new_u64(peers.len() as u64 + 1), EventFlags::IN)?;
                    peers.push(Peer { stream, left: Vec::new() });
                }
                continue;
            }
            let at = usize::try_from(data - 1).expect("the index fits into a usize");
            let mut chunk = [0; CHUNK];
            let read = match peers[at].stream.read(&mut chunk) {
                Ok(0) => {
                    epoll::delete(&poll, &peers[at].stream)?;
                    continue;
                }
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(_) => continue,
            };
            let flags = event.flags;
            if flags.contains(EventFlags::OUT) {
                flush(&poll, &mut peers[at], at)?;
            }
            if let Some(rest) = chunk[..read].strip_prefix(b"GET /sub/") {
                let number = std::str::from_utf8(rest).ok().and_then(|text| text.split(' ').next()?.parse().ok());
                topics.entry(number.expect("the topic is a number")).or_default().push(at);
                send(&poll, &mut peers[at], at, b"HTTP/1.1 101 Switching Protocols\r\n\r\n")?;
                continue;
            }
            inbox.extend_from_slice(&chunk[..read]);
            deliver(&poll, &mut peers, &topics, &mut inbox, writes)?;
        }
    }
}

fn deliver(
    poll: &impl AsFd,
    peers: &mut [Peer],
    topics: &HashMap<u32, Vec<usize>>,
    inbox: &mut Vec<u8>,
    writes: Writes,
) -> io::Result<()> {
    let mut taken = 0;
    let mut joined: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut places: HashMap<u32, usize> = HashMap::new();
    while let Some(header) = inbox[taken..].first_chunk::<HEADER>() {
        let topic = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let Some(frame) = inbox[taken + HEADER..].get(..len) else { break };
        taken += HEADER + len;
        if writes == Writes::Single {
            for at in topics.get(&topic).into_iter().flatten() {
                send(poll, &mut peers[*at], *at, frame)?;
            }
            continue;
        }
        let place = *places.entry(topic).or_insert(joined.len());
        match joined.get_mut(place) {
            Some((_, bytes)) => bytes.extend_from_slice(frame),
            None => joined.push((topic, frame.to_vec())),
        }
    }
    for (topic, bytes) in joined {
        for at in topics.get(&topic).into_iter().flatten() {
            send(poll, &mut peers[*at], *at, &bytes)?;
        }
    }
    inbox.drain(..taken);
    Ok(())
}

/// Writes what the socket takes and keeps the rest.
fn send(poll: &impl AsFd, peer: &mut Peer, at: usize, bytes: &[u8]) -> io::Result<()> {
    if !peer.left.is_empty() {
        peer.left.extend_from_slice(bytes);
        return Ok(());
    }
    let written = write(&mut peer.stream, bytes);
    if written < bytes.len() {
        peer.left.extend_from_slice(&bytes[written..]);
        let flags = EventFlags::IN | EventFlags::OUT;
        epoll::modify(poll, &peer.stream, EventData::new_u64(at as u64 + 1), flags)?;
    }
    Ok(())
}

/// Writes the bytes that were kept.
fn flush(poll: &impl AsFd, peer: &mut Peer, at: usize) -> io::Result<()> {
    let written = write(&mut peer.stream, &peer.left);
    peer.left.drain(..written);
    if peer.left.is_empty() {
        epoll::modify(poll, &peer.stream, EventData::new_u64(at as u64 + 1), EventFlags::IN)?;
    }
    Ok(())
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return written,
            // The subscriber left, which is noticed when its socket is read.
            Err(_) => return bytes.len(),
        }
    }
    written
}
