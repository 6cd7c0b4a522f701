//! The physical limit: one thread that does nothing but write the published bytes to its subscribers' sockets.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// Bytes read at once. Callscope joins as many bytes into one write.
const READ_BYTES: usize = 32 * 1024;
/// Length of a publication's header: the topic, then the length of the frame, both as little-endian `u32`.
pub const HEADER_BYTES: usize = 8;

/// How the frames of one topic are written to a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WriteMode {
    /// Join all frames that were read together into one write
    Batched,
    /// Write each frame by itself
    Single,
}

/// Appends a publication, which is a header and a frame, to `out`.
pub fn encode_publication(topic: u32, frame: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&topic.to_le_bytes());
    out.extend_from_slice(&u32::try_from(frame.len()).expect("the frame is short").to_le_bytes());
    out.extend_from_slice(frame);
}

/// A connection of a subscriber or of the publisher.
struct Connection {
    stream: TcpStream,
    /// Bytes that wait until the socket accepts more.
    unsent: Vec<u8>,
}

/// Serves until the process is killed.
pub fn run(port: u16, mode: WriteMode) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(0), EventFlags::IN)?;
    let mut connections: Vec<Connection> = Vec::new();
    let mut subscribers: HashMap<u32, Vec<usize>> = HashMap::new();
    let mut events = Vec::with_capacity(256);
    // Published bytes that are not delivered yet.
    let mut inbox = Vec::with_capacity(2 * READ_BYTES);
    loop {
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            // 0 is the listener, and n the connection with the index n - 1.
            let data = event.data.u64();
            if data == 0 {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    epoll::add(&poll, &stream, EventData::new_u64(connections.len() as u64 + 1), EventFlags::IN)?;
                    connections.push(Connection { stream, unsent: Vec::new() });
                }
                continue;
            }
            let index = usize::try_from(data - 1).expect("the index fits into a usize");
            let mut chunk = [0; READ_BYTES];
            let read = match connections[index].stream.read(&mut chunk) {
                Ok(0) => {
                    epoll::delete(&poll, &connections[index].stream)?;
                    continue;
                }
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(_) => continue,
            };
            let flags = event.flags;
            if flags.contains(EventFlags::OUT) {
                flush(&poll, &mut connections[index], index)?;
            }
            if let Some(rest) = chunk[..read].strip_prefix(b"GET /sub/") {
                let topic = std::str::from_utf8(rest).ok().and_then(|text| text.split(' ').next()?.parse().ok());
                subscribers.entry(topic.expect("the topic is a number")).or_default().push(index);
                send(&poll, &mut connections[index], index, b"HTTP/1.1 101 Switching Protocols\r\n\r\n")?;
                continue;
            }
            inbox.extend_from_slice(&chunk[..read]);
            deliver(&poll, &mut connections, &subscribers, &mut inbox, mode)?;
        }
    }
}

/// Writes the complete publications in `inbox` to the subscribers of their topics and removes them.
fn deliver(
    poll: &impl AsFd,
    connections: &mut [Connection],
    subscribers: &HashMap<u32, Vec<usize>>,
    inbox: &mut Vec<u8>,
    mode: WriteMode,
) -> io::Result<()> {
    let mut parsed_bytes = 0;
    // Topics in the order of their first frames, with all their frames.
    let mut batches: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut batch_of_topic: HashMap<u32, usize> = HashMap::new();
    while let Some(header) = inbox[parsed_bytes..].first_chunk::<HEADER_BYTES>() {
        let topic = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let Some(frame) = inbox[parsed_bytes + HEADER_BYTES..].get(..len) else { break };
        parsed_bytes += HEADER_BYTES + len;
        if mode == WriteMode::Single {
            for index in subscribers.get(&topic).into_iter().flatten() {
                send(poll, &mut connections[*index], *index, frame)?;
            }
            continue;
        }
        let batch = *batch_of_topic.entry(topic).or_insert(batches.len());
        match batches.get_mut(batch) {
            Some((_, bytes)) => bytes.extend_from_slice(frame),
            None => batches.push((topic, frame.to_vec())),
        }
    }
    for (topic, bytes) in batches {
        for index in subscribers.get(&topic).into_iter().flatten() {
            send(poll, &mut connections[*index], *index, &bytes)?;
        }
    }
    inbox.drain(..parsed_bytes);
    Ok(())
}

/// Writes as many bytes as the socket accepts and keeps the rest.
fn send(poll: &impl AsFd, connection: &mut Connection, index: usize, bytes: &[u8]) -> io::Result<()> {
    if !connection.unsent.is_empty() {
        connection.unsent.extend_from_slice(bytes);
        return Ok(());
    }
    let written = write(&mut connection.stream, bytes);
    if written < bytes.len() {
        connection.unsent.extend_from_slice(&bytes[written..]);
        let flags = EventFlags::IN | EventFlags::OUT;
        epoll::modify(poll, &connection.stream, EventData::new_u64(index as u64 + 1), flags)?;
    }
    Ok(())
}

/// Writes bytes that were kept.
fn flush(poll: &impl AsFd, connection: &mut Connection, index: usize) -> io::Result<()> {
    let written = write(&mut connection.stream, &connection.unsent);
    connection.unsent.drain(..written);
    if connection.unsent.is_empty() {
        epoll::modify(poll, &connection.stream, EventData::new_u64(index as u64 + 1), EventFlags::IN)?;
    }
    Ok(())
}

/// Writes until the socket is full, and returns the number of bytes that are done with.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return written,
            // The subscriber has left. The read of its socket returns 0 later and removes it.
            Err(_) => return bytes.len(),
        }
    }
    written
}
